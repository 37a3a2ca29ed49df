package loggers_test

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"testing"

	"github.com/stratabroker/strata/broker/loggers"
)

func registry(out *bytes.Buffer) *loggers.Registry {
	return loggers.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: loggers.LevelTrace}), slog.LevelInfo)
}

func set(t *testing.T, r *loggers.Registry, changes ...loggers.Change) {
	t.Helper()
	if err := r.Check(changes); err != nil {
		t.Fatal(err)
	}
	r.Apply(changes)
}

func TestALevelActsAtOnceOnLoggersThatWereGivenOut(t *testing.T) {
	var out bytes.Buffer
	r := registry(&out)
	log, with := r.Logger("broker.log"), r.Logger("broker.log").With("topic", "t")
	log.Debug("before")
	set(t, r, loggers.Change{Name: "broker.log", Level: "DEBUG"})
	log.Debug("after")
	with.Debug("derived")
	r.Logger("broker.api").Debug("another")
	set(t, r, loggers.Change{Name: "broker.log", Level: "FATAL"})
	log.Error("too low")
	if got := out.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "after") || !strings.Contains(got, "derived") || !strings.Contains(got, "topic=t") {
		t.Errorf("logged:\n%s", got)
	}
}

func TestALoggerInheritsFromTheNearestAboveIt(t *testing.T) {
	r := registry(&bytes.Buffer{})
	r.Logger("tiering")
	r.Logger("tiering.reader")
	r.Logger("broker")
	set(t, r, loggers.Change{Name: "tiering", Level: "WARN"})
	r.Logger("tiering.later")
	want := map[string]string{"root": "INFO", "broker": "INFO", "tiering": "WARN", "tiering.reader": "WARN", "tiering.later": "WARN"}
	if got := maps.Collect(r.Levels()); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	set(t, r, loggers.Change{Name: "tiering", Remove: true}, loggers.Change{Name: "root", Level: "TRACE"})
	for name, level := range r.Levels() {
		if level != "TRACE" {
			t.Errorf("%s has %s, the root's is TRACE", name, level)
		}
	}
}

func TestBadLevelsAreRefusedAndNothingChanges(t *testing.T) {
	r := registry(&bytes.Buffer{})
	for _, tc := range []struct {
		change loggers.Change
		want   error
	}{
		{loggers.Change{Name: "no.such", Level: "INFO"}, loggers.ErrUnknown},
		{loggers.Change{Name: "no.such", Remove: true}, loggers.ErrUnknown},
		{loggers.Change{Name: "root", Level: "info"}, loggers.ErrLevel},
		{loggers.Change{Name: "root"}, loggers.ErrLevel},
		{loggers.Change{Name: "root", Remove: true}, loggers.ErrRoot},
	} {
		if err := r.Check([]loggers.Change{tc.change}); !errors.Is(err, tc.want) {
			t.Errorf("%v: %v, want %v", tc.change, err, tc.want)
		}
	}
	if got := maps.Collect(r.Levels()); !maps.Equal(got, map[string]string{"root": "INFO"}) {
		t.Errorf("%v", got)
	}
}

func TestALoggerOfAnotherMakeKeepsItsLevel(t *testing.T) {
	var out bytes.Buffer
	plain := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn}))
	r := loggers.Of(plain)
	if loggers.Of(r.Logger(loggers.Root)) != r {
		t.Error("a logger does not know its registry")
	}
	if got := maps.Collect(r.Levels()); got["root"] != "WARN" {
		t.Errorf("%v", got)
	}
}
