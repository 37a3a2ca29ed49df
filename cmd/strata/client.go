package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
)

// dialTimeout is how long a command waits for a broker to answer at all.
const dialTimeout = 10 * time.Second

// client is the flags that every command has that talks to a broker.
type client struct {
	brokers []string
}

func (c *client) flags(cmd *cobra.Command) {
	cmd.PersistentFlags().StringSliceVar(&c.brokers, "broker", []string{defaultBroker}, "`host:port` of one broker or several")
}

// connect makes a client and sees that a broker answers, so that a wrong
// address is an error and not a command that hangs.
func (c *client) connect(ctx context.Context, opts ...kgo.Opt) (*kgo.Client, error) {
	opts = append([]kgo.Opt{kgo.SeedBrokers(c.brokers...), kgo.ClientID("strata-cli"), kgo.DialTimeout(3 * time.Second)}, opts...)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := cl.Ping(ctx); err != nil {
		cl.Close()
		return nil, fmt.Errorf("no broker answers at %s: %w", strings.Join(c.brokers, ", "), err)
	}
	return cl, nil
}
