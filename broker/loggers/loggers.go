// Package loggers names the loggers of a broker and changes their levels while it
// runs (KIP-412). It knows which levels there are and which logger inherits from
// which; it does not write: that is left to the handler below. The composition
// root gives each room its logger, broker/api tells and changes the levels.
package loggers

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Root is the logger that the others inherit from.
const Root = "root"

// Kafka's levels that slog has no name for.
const (
	LevelTrace = slog.LevelDebug - 4
	LevelFatal = slog.LevelError + 4
)

// Refusals, to be matched with errors.Is.
var (
	ErrUnknown = errors.New("no such logger")
	ErrLevel   = errors.New("no such level")
	ErrRoot    = errors.New("the root logger has a level always")
)

// levels are Kafka's names, in its order of an error's text.
func levels() []string { return []string{"DEBUG", "ERROR", "FATAL", "INFO", "TRACE", "WARN"} }

func parse(name string) (slog.Level, bool) {
	switch name {
	case "TRACE":
		return LevelTrace, true
	case "DEBUG":
		return slog.LevelDebug, true
	case "INFO":
		return slog.LevelInfo, true
	case "WARN":
		return slog.LevelWarn, true
	case "ERROR":
		return slog.LevelError, true
	case "FATAL":
		return LevelFatal, true
	}
	return 0, false
}

// nameOf is the nearest of Kafka's levels that lets no more through.
func nameOf(l slog.Level) string {
	switch {
	case l <= LevelTrace:
		return "TRACE"
	case l <= slog.LevelDebug:
		return "DEBUG"
	case l <= slog.LevelInfo:
		return "INFO"
	case l <= slog.LevelWarn:
		return "WARN"
	case l <= slog.LevelError:
		return "ERROR"
	}
	return "FATAL"
}

// Registry holds the named loggers of one broker. It is safe for concurrent use.
type Registry struct {
	out slog.Handler

	mu    sync.Mutex
	own   map[string]slog.Level    // guarded by mu: levels that were set; of the root always
	nodes map[string]*atomic.Int64 // guarded by mu: the level in force, read without mu
}

// New makes a registry that writes to out, which must let every level through,
// with the root logger at that level.
func New(out slog.Handler, root slog.Level) *Registry {
	r := &Registry{out: out, own: map[string]slog.Level{Root: root}, nodes: map[string]*atomic.Int64{}}
	r.Logger(Root)
	return r
}

// Of is the registry that a logger belongs to; one of its own for a logger of another make, whose level stays.
func Of(l *slog.Logger) *Registry {
	if h, ok := l.Handler().(*handler); ok {
		return h.registry
	}
	for _, level := range []slog.Level{LevelTrace, slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if l.Enabled(context.Background(), level) {
			return New(l.Handler(), level)
		}
	}
	return New(l.Handler(), LevelFatal)
}

// Logger gives the logger of a name, which from now on is one that Levels tells.
func (r *Registry) Logger(name string) *slog.Logger {
	r.mu.Lock()
	defer r.mu.Unlock()
	level, ok := r.nodes[name]
	if !ok {
		level = &atomic.Int64{}
		r.nodes[name] = level
		level.Store(int64(r.levelOf(name)))
	}
	return slog.New(&handler{Handler: r.out, registry: r, level: level})
}

// levelOf is the level of a name's own or of the nearest above it. It needs mu.
func (r *Registry) levelOf(name string) slog.Level {
	for {
		if l, ok := r.own[name]; ok {
			return l
		}
		dot := strings.LastIndexByte(name, '.')
		if dot < 0 {
			return r.own[Root]
		}
		name = name[:dot]
	}
}

// Levels yields every logger with its level in force, in the order of names.
func (r *Registry) Levels() iter.Seq2[string, string] {
	r.mu.Lock()
	defer r.mu.Unlock()
	type row struct{ name, level string }
	var rows []row
	for name, level := range r.nodes {
		rows = append(rows, row{name, nameOf(slog.Level(level.Load()))})
	}
	slices.SortFunc(rows, func(a, b row) int { return strings.Compare(a.name, b.name) })
	return func(yield func(string, string) bool) {
		for _, row := range rows {
			if !yield(row.name, row.level) {
				return
			}
		}
	}
}

// Change sets the level of a logger, or takes its own away: then it inherits.
type Change struct {
	Name   string
	Level  string // TRACE, DEBUG, INFO, WARN, ERROR or FATAL
	Remove bool   // Level is not read
}

// Check tells whether the changes are allowed. Errors wrap ErrUnknown, ErrLevel or
// ErrRoot and are for people, in Kafka's words.
func (r *Registry) Check(changes []Change) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range changes {
		if _, ok := r.nodes[c.Name]; !ok {
			return refusal{ErrUnknown, fmt.Sprintf("Logger %s does not exist!", c.Name)}
		}
		if c.Remove && c.Name == Root {
			return refusal{ErrRoot, "Removing the log level of the root logger is not allowed"}
		}
		if _, ok := parse(c.Level); !c.Remove && !ok {
			return refusal{ErrLevel, fmt.Sprintf("Cannot set the log level of %s to %s as it is not a supported log level. Valid log levels are %s",
				c.Name, c.Level, strings.Join(levels(), ", "))}
		}
	}
	return nil
}

// refusal is an error whose text is for people alone.
type refusal struct {
	error

	text string
}

func (r refusal) Error() string { return r.text }

// Unwrap gives the reason, for errors.Is.
func (r refusal) Unwrap() error { return r.error }

// Apply makes changes that Check has passed, all at once. They last as long as the process.
func (r *Registry) Apply(changes []Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range changes {
		if level, ok := parse(c.Level); ok && !c.Remove {
			r.own[c.Name] = level
		} else {
			delete(r.own, c.Name)
		}
	}
	for name, level := range r.nodes {
		level.Store(int64(r.levelOf(name)))
	}
}

// handler lets through what its logger's level does.
type handler struct {
	slog.Handler

	registry *Registry
	level    *atomic.Int64
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return int64(l) >= h.level.Load() }

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{Handler: h.Handler.WithAttrs(attrs), registry: h.registry, level: h.level}
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{Handler: h.Handler.WithGroup(name), registry: h.registry, level: h.level}
}
