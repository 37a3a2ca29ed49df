package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// dialTimeout is how long a command waits for a broker to answer at all.
const dialTimeout = 10 * time.Second

// bootstrapVariable names brokers where no flag does. It is no setting of a broker.
const bootstrapVariable = "STRATA_BOOTSTRAP"

// client is the flags that every command has that talks to a broker.
type client struct {
	brokers []string
}

func (c *client) flags(cmd *cobra.Command) {
	brokers := []string{defaultBroker}
	if named := os.Getenv(bootstrapVariable); named != "" {
		brokers = strings.Split(named, ",")
	}
	cmd.PersistentFlags().StringSliceVarP(&c.brokers, "bootstrap-server", "b", brokers, "`host:port` of one broker or several; "+bootstrapVariable+" is another default")
}

// environment is that of the process without what is for clients.
func environment() []string {
	var out []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, bootstrapVariable+"=") {
			out = append(out, pair)
		}
	}
	return out
}

// connect makes a client and sees that a broker answers, so that a wrong
// address is an error and not a command that hangs.
func (c *client) connect(ctx context.Context, opts ...kgo.Opt) (*kgo.Client, error) {
	opts = append([]kgo.Opt{kgo.SeedBrokers(c.brokers...), kgo.ClientID("strata-cli"), kgo.DialTimeout(3 * time.Second)}, opts...)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, usage("--bootstrap-server %s: %v", strings.Join(c.brokers, ","), err)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := cl.Ping(ctx); err != nil {
		cl.Close()
		return nil, fmt.Errorf("no broker answers at %s: %w (--bootstrap-server or %s names another)", strings.Join(c.brokers, ", "), err, bootstrapVariable)
	}
	return cl, nil
}

// admin runs fn with an admin client.
func (c *client) admin(ctx context.Context, fn func(*kadm.Client) error) error {
	cl, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	return fn(kadm.NewClient(cl))
}

// advice says what to do about a refusal of Kafka's, where that is not clear from its text.
var advice = map[*kerr.Error]string{
	kerr.UnknownTopicOrPartition: "strata topic list shows what there is",
	kerr.TopicAlreadyExists:      "--if-not-exists passes over it",
	kerr.GroupIDNotFound:         "strata group list shows what there is",
	kerr.NonEmptyGroup:           "stop its members first; strata group describe --members shows them",
	kerr.GroupSubscribedToTopic:  "stop the members that read the topic first; strata group describe --members shows them",
	kerr.UnsupportedVersion:      "the broker does not serve this request",
	kerr.CoordinatorNotAvailable: "the broker is starting, or cannot make __consumer_offsets: try again, or read its log",
}

// explain gives an error that says what to do: text of the broker if it sent one, else that of the code.
func explain(err error, text string) error {
	if err == nil {
		return nil
	}
	out := err
	if text != "" {
		out = &toldError{text, err}
	}
	if code := (*kerr.Error)(nil); errors.As(err, &code) && advice[code] != "" {
		return fmt.Errorf("%w (%s)", out, advice[code])
	}
	return out
}

// toldError is a code with the broker's own words.
type toldError struct {
	text string
	code error
}

func (e *toldError) Error() string { return e.text }

func (e *toldError) Unwrap() error { return e.code }
