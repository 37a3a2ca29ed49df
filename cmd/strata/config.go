package main

import (
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stratabroker/strata/broker/loggers"
	"github.com/stratabroker/strata/metadata"
)

// parsePairs reads --set and --config arguments.
func parsePairs(flag string, pairs []string) (map[string]string, error) {
	out := map[string]string{}
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, usage("--%s %s: want key=value", flag, pair)
		}
		out[name] = strings.TrimSpace(value)
	}
	return out, nil
}

// readConfig reads a properties file.
func readConfig(path string) (map[string]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read
	out, err := metadata.ReadProperties(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

// settle makes the settings out of layers, later ones overriding earlier ones,
// and warns of each that is known and has no effect.
func settle(logger *slog.Logger, layers ...map[string]string) (*metadata.Static, error) {
	static, ignored, err := metadata.NewStatic(layers...)
	if err != nil {
		return nil, err
	}
	if err := static.Validate(); err != nil {
		return nil, err
	}
	for _, name := range ignored {
		setting, _ := metadata.BrokerSetting(name)
		logger.Warn("setting has no effect: Kafka's key is known but not honoured", "setting", name, "reason", setting.Doc)
	}
	return static, nil
}

// newLogger writes readable lines: time, level, message, key=value; with --json objects.
// Its level may be changed later.
func newLogger(cmd *cobra.Command, level slog.Level) *slog.Logger {
	o := &slog.HandlerOptions{Level: loggers.LevelTrace}
	var out slog.Handler = slog.NewTextHandler(cmd.ErrOrStderr(), o)
	if wantsJSON(cmd) {
		out = slog.NewJSONHandler(cmd.ErrOrStderr(), o)
	}
	return loggers.New(out, level).Logger(loggers.Root)
}
