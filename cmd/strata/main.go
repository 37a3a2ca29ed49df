// Command strata is the broker and the tools around it: flags, files and
// signals in, broker.New or a client out. It decides nothing itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	_ "golang.org/x/crypto/x509roots/fallback" // an image from scratch has no certificates of its own
)

// repeatedSignal is how soon after the first a signal is the same one.
const repeatedSignal = 250 * time.Millisecond

// version is set by the linker.
var version string

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run carries out one command line. The exit status is 0, 1 for a failure or 2
// for a command line that means nothing; either is told in one line on stderr.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// The first signal ends the work in hand, a second one the process; but not
	// one that only repeats the first, as make and a terminal together send it.
	context.AfterFunc(ctx, func() { time.AfterFunc(repeatedSignal, stop) })

	root := rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	started := false // before it is, an error is one of the command line
	root.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	command, err := root.ExecuteContextC(ctx)
	switch usage := (*usageError)(nil); {
	case err == nil:
		return 0
	case errors.As(err, &usage), !started:
		_, _ = fmt.Fprintf(stderr, "strata: %s (see %s --help)\n", oneLine(err), command.CommandPath())
		return 2
	default:
		_, _ = fmt.Fprintf(stderr, "strata: %s\n", oneLine(err))
		return 1
	}
}

// usageError is a command line that cobra's own checks cannot refuse.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usage(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "strata",
		Short: "A Kafka-protocol broker that keeps years of events in a bucket",
		Long: `strata speaks Kafka's protocol. Recent records lie on local disk, sealed segments in a
bucket (a directory or anything that speaks S3), and any client reads both as one log.`,
		Example: `  strata dev                                     a broker on this machine, nothing to set up
  seq 1 100 | strata produce numbers             write a hundred records
  strata consume numbers --until-end             and read them back
  strata server --config strata.properties       a broker set up by Kafka's keys`,
		Version:           versionText(),
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetVersionTemplate(versionLine())
	jsonFlag(root)
	root.AddGroup(
		&cobra.Group{ID: "broker", Title: "Run a broker:"},
		&cobra.Group{ID: "client", Title: "Use one:"},
		&cobra.Group{ID: "tool", Title: "Look at a bucket or at log files, look things up:"},
	)
	for group, commands := range map[string][]*cobra.Command{
		"broker": {devCommand(), serverCommand()},
		"client": {topicCommand(), configCommand(), groupCommand(), produceCommand(), consumeCommand(), healthCommand()},
		"tool":   {bucketCommand(), logCommand(), settingsCommand(), apisCommand(), versionCommand()},
	} {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	return root
}

// parent makes a command that only holds others refuse what is none of them;
// cobra would print the help and call it a success.
func parent(c *cobra.Command) {
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usage("unknown command %q", args[0])
		}
		return cmd.Help()
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  strata version",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			facts := map[string]string{"version": versionText(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH}
			return answer(cmd, facts, func(w io.Writer) error {
				_, err := fmt.Fprint(w, versionLine())
				return err
			})
		},
	}
}

func versionLine() string {
	return fmt.Sprintf("strata %s (%s, %s/%s)\n", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// versionText is what the linker was told, else what `go install` recorded.
func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
