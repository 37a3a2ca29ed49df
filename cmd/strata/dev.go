package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stratabroker/strata/broker"
	"github.com/stratabroker/strata/metadata"
	"github.com/stratabroker/strata/tiering/object"
)

const defaultBroker = "127.0.0.1:9092"

// dev is the command line of strata dev.
type dev struct {
	dataDir, listen, http, bucket string
	set                           []string
	level                         slog.Level
}

func devCommand() *cobra.Command {
	var d dev
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run one broker on this machine, nothing to set up",
		Long: `Run one broker that is its own controller. Topics are created on first use, groups form at
once, and sealed segments go to a bucket, by default a directory inside the data directory.
STRATA_ variables override what dev presets, flags override both. See also: strata settings.`,
		Example: `  strata dev
  strata dev --data-dir /tmp/try --listen 127.0.0.1:19092 --http 127.0.0.1:19644
  strata dev --bucket 's3://archive/try?endpoint=http://127.0.0.1:9000&region=us-east-1'
  strata dev --set log.segment.bytes=1048576 --set log.local.retention.bytes=1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			variables, err := metadata.Environment(environment())
			if err != nil {
				return err
			}
			settings, err := d.settings(variables, cmd.Flags().Changed)
			if err != nil {
				return err
			}
			logger := newLogger(cmd, d.level)
			static, err := settle(logger, settings)
			if err != nil {
				return err
			}
			err = serve(cmd.Context(), static, "", logger, func(b *broker.Broker, took time.Duration) error {
				facts := map[string]any{"listeners": b.Listeners(), "http": b.HTTP(), "data": static.LogDir(), "bucket": b.BucketURL(), "took_ms": took.Milliseconds()}
				return answer(cmd, facts, func(w io.Writer) error { return welcome(w, b, static, took) })
			})
			return nameFlag(err)
		},
	}
	c.Flags().StringVar(&d.dataDir, "data-dir", "./strata-data", "`DIR` for everything the broker keeps")
	c.Flags().StringVar(&d.listen, "listen", "127.0.0.1:9092", "`host:port` for Kafka clients")
	c.Flags().StringVar(&d.http, "http", "127.0.0.1:9644", "`host:port` for /metrics, /healthz and /readyz; empty for none")
	c.Flags().StringVar(&d.bucket, "bucket", "", "`URL` of the bucket (default: dir:// inside the data directory)")
	c.Flags().StringArrayVar(&d.set, "set", nil, "set anything else, `key=value`; may be given often")
	levelFlag(c, &d.level)
	return c
}

// nameFlag tells the flag that chooses another port than one that cannot be had.
func nameFlag(err error) error {
	if failed := (*net.OpError)(nil); !errors.As(err, &failed) || failed.Op != "listen" {
		return err
	}
	flag := "--listen"
	if strings.HasPrefix(err.Error(), "strata.http.listen=") {
		flag = "--http"
	}
	return fmt.Errorf("%w (%s chooses another)", err, flag)
}

// settings lays the environment over the presets, and what the command line
// asks for over both.
func (d *dev) settings(environment map[string]string, given func(flag string) bool) (map[string]string, error) {
	set, err := parsePairs("set", d.set)
	if err != nil {
		return nil, err
	}
	if strings.Contains(d.dataDir, ",") {
		return nil, usage("--data-dir %s: a comma is not allowed, log.dirs is a list", d.dataDir)
	}
	out := map[string]string{
		"node.id":                          "1",
		"process.roles":                    "broker,controller",
		"auto.create.topics.enable":        "true",
		"group.initial.rebalance.delay.ms": "0",
		"offsets.topic.replication.factor": "1",
		"log.dirs":                         d.dataDir,
		"listeners":                        "PLAINTEXT://" + d.listen,
		"strata.http.listen":               d.http,
	}
	maps.Copy(out, environment)
	for _, f := range []struct{ flag, setting, value string }{
		{"data-dir", "log.dirs", d.dataDir},
		{"listen", "listeners", "PLAINTEXT://" + d.listen},
		{"http", "strata.http.listen", d.http},
		{"bucket", "strata.bucket.url", d.bucket},
	} {
		if given(f.flag) {
			out[f.setting] = f.value
		}
	}
	maps.Copy(out, set)
	if out["log.dirs"], err = filepath.Abs(out["log.dirs"]); err != nil {
		return nil, err
	}
	if _, ok := out["strata.bucket.url"]; !ok {
		out["strata.bucket.url"] = object.URL{Scheme: object.SchemeDir, Path: filepath.Join(out["log.dirs"], "bucket")}.String()
	}
	return out, nil
}

// welcome says where the broker is and what to try, in commands that work when pasted.
func welcome(w io.Writer, b *broker.Broker, static *metadata.Static, took time.Duration) error {
	kafka := make([]string, 0, 1)
	for _, l := range b.Listeners() {
		_, addr, _ := strings.Cut(l, "://")
		kafka = append(kafka, addr)
	}
	var text strings.Builder
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&text, "  %-7s %s\n", name, value)
		}
	}
	fmt.Fprintf(&text, "strata %s is ready in %v\n\n", versionText(), took)
	row("Kafka", strings.Join(kafka, ", "))
	if b.HTTP() != "" {
		row("HTTP", "http://"+strings.TrimPrefix(b.HTTP(), "http://")+"  (/metrics /healthz /readyz)")
	}
	row("data", static.LogDir())
	row("bucket", b.BucketURL())
	self, address := selfCommand(), ""
	if kafka[0] != defaultBroker {
		address = " --bootstrap-server " + kafka[0]
	}
	fmt.Fprintf(&text, "\nTry in another terminal:\n\n")
	fmt.Fprintf(&text, "  seq 1 1000 | %s produce hello%s\n", self, address)
	fmt.Fprintf(&text, "  %s consume hello%s --until-end\n", self, address)
	if b.BucketURL() != "" {
		fmt.Fprintf(&text, "  %s bucket ls %s\n", self, quote(b.BucketURL()))
	} else {
		fmt.Fprintf(&text, "  %s topic describe hello%s\n", self, address)
	}
	fmt.Fprintf(&text, "\nCtrl-C stops it.\n")
	_, err := io.WriteString(w, text.String())
	return err
}

// selfCommand is how this process was called, where that works elsewhere too.
func selfCommand() string {
	if path, err := exec.LookPath(os.Args[0]); err == nil {
		return quote(path)
	}
	return "strata"
}

// quote makes a word that a shell reads as it is.
func quote(word string) string {
	if strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._/:@%+,=") == "" && word != "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
