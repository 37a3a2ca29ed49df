package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healthTimeout is how long a broker may take to say how it is.
const healthTimeout = 3 * time.Second

func healthCommand() *cobra.Command {
	var address string
	c := &cobra.Command{
		Use:   "health",
		Short: "Ask a broker whether it is ready",
		Long: `Ask a broker's HTTP listener (strata.http.listen) whether it is ready to serve. The exit status
is 0 where it is, so that it can be a container's health check.`,
		Example: `  strata health
  strata health --http 127.0.0.1:19644`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := askReady(cmd.Context(), address)
			if err != nil {
				return fmt.Errorf("not ready: %w", err)
			}
			return answer(cmd, map[string]any{"ready": true}, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, text)
				return err
			})
		},
	}
	c.Flags().StringVar(&address, "http", "127.0.0.1:9644", "`host:port` of the broker's HTTP listener")
	return c
}

// askReady gives what /readyz answers with status 200.
func askReady(ctx context.Context, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return "", usage("--http %s: want host:port", address)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(body))
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", resp.Status, text)
	}
	return text, nil
}
