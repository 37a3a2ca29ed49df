package main

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stratabroker/strata/broker"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/recovery"
)

// serve runs a broker until ctx ends. ready is called once it serves.
func serve(ctx context.Context, static *metadata.Static, restore string, logger *slog.Logger, ready func(b *broker.Broker, took time.Duration) error) error {
	began := time.Now()
	memory, err := broker.MemoryMax(static)
	if err != nil {
		return err
	}
	debug.SetMemoryLimit(memory)
	b, err := broker.New(ctx, broker.Config{Static: static, Restore: restore, Logger: logger})
	if err != nil && ctx.Err() != nil {
		logger.Info("stopped before it was ready", "reason", err)
		return nil
	}
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !b.Ready() {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
		}
	}
	if err := ready(b, time.Since(began).Round(time.Millisecond)); err != nil {
		stop() // nobody would know where it listens
		return errors.Join(err, <-ended)
	}
	return <-ended
}

func serverCommand() *cobra.Command {
	var config, from string
	var set []string
	var level slog.Level
	c := &cobra.Command{
		Use:   "server --config FILE",
		Short: "Run a broker set up by a properties file",
		Long: `Run a broker. Settings come from the file, in Kafka's format and with Kafka's names;
STRATA_ variables override the file (STRATA_NODE_ID is node.id, STRATA_BUCKET_URL is
strata.bucket.url), and --set overrides both. A setting that is unknown, or has a value that is
not allowed, or contradicts another one stops the start. See also: strata settings.

--restore brings a broker that lost its disk back from its bucket into an empty data folder: topics
with their ids and settings, records, producers and committed offsets, each as far as the bucket has
them; what a partition had beyond that is lost, and said in the log. The bucket is the new broker's from then
on: the old one, should it be alive, may not write it any more. A restore that was broken off goes on at the next
start, with --restore or without. After @ comes latest, a time, or a root as GENERATION.SEQ.`,
		Example: `  strata server --config /etc/strata/server.properties
  strata server --config server.properties --set node.id=2 --set log.dirs=/data/2
  STRATA_BUCKET_URL=s3://archive/prod strata server --config server.properties
  strata server --config server.properties --restore s3://archive/prod?region=eu-central-1@latest

  A file that starts:

    node.id=1
    process.roles=broker,controller
    listeners=PLAINTEXT://127.0.0.1:9092
    log.dirs=/var/lib/strata
    offsets.topic.replication.factor=1
    strata.bucket.url=s3://archive/prod?region=eu-central-1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if config == "" {
				return usage("--config FILE is needed")
			}
			file, err := readConfig(config)
			if err != nil {
				return err
			}
			variables, err := metadata.Environment(environment())
			if err != nil {
				return err
			}
			flags, err := parsePairs("set", set)
			if err != nil {
				return err
			}
			target, err := restoreTarget(from, flags, variables, file)
			if err != nil {
				return err
			}
			logger := newLogger(cmd, level)
			static, err := settle(logger, file, variables, flags)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), static, target, logger, func(b *broker.Broker, took time.Duration) error {
				logger.Info("ready", "listeners", b.Listeners(), "http", b.HTTP(), "bucket", b.BucketURL(), "took", took)
				return nil
			})
		},
	}
	c.Flags().StringVar(&config, "config", "", "properties `FILE`")
	c.Flags().StringArrayVar(&set, "set", nil, "override one setting, `key=value`; may be given often")
	c.Flags().StringVar(&from, "restore", "", "bring the broker back from its bucket into an empty data folder: `URL@latest`")
	levelFlag(c, &level)
	return c
}

// restoreTarget reads --restore URL@TARGET. The URL becomes strata.bucket.url where that is not set in any of layers, the
// first of which goes before the others; where it is, both must be the same.
func restoreTarget(from string, layers ...map[string]string) (string, error) {
	if from == "" {
		return "", nil
	}
	at := strings.LastIndexByte(from, '@')
	if at < 0 {
		return "", usage("--restore %s: want URL@latest", from)
	}
	url, target := from[:at], from[at+1:]
	if _, err := object.ParseURL(url); err != nil {
		return "", usage("--restore: %v", err)
	}
	if _, err := recovery.ParseTarget(target); err != nil {
		return "", usage("--restore: %v", err)
	}
	for _, l := range layers {
		if set, ok := l["strata.bucket.url"]; ok && set != url {
			return "", usage("--restore names %s, strata.bucket.url is %s: they must be the same", url, set)
		} else if ok {
			return target, nil
		}
	}
	layers[0]["strata.bucket.url"] = url
	return target, nil
}

func levelFlag(c *cobra.Command, level *slog.Level) {
	c.Flags().TextVar(level, "log-level", slog.LevelInfo, "least `LEVEL` that is logged: debug, info, warn or error")
}
