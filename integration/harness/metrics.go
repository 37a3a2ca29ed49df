package harness

import (
	"bufio"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// Metrics are the samples of one scrape, by name with labels as they were
// written: `kafka_server_x{topic="a"}`.
type Metrics map[string]float64

// Metrics scrapes the broker.
func (b *Broker) Metrics() Metrics {
	b.tb.Helper()
	out := Metrics{}
	err := b.get("/metrics", func(r *http.Response) error {
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			line := lines.Text()
			space := strings.LastIndexByte(line, ' ')
			if strings.HasPrefix(line, "#") || space < 0 {
				continue
			}
			value, err := strconv.ParseFloat(line[space+1:], 64)
			if err != nil {
				return err
			}
			out[line[:space]] = value
		}
		return lines.Err()
	})
	if err != nil {
		b.tb.Fatal(err)
	}
	return out
}

// Sum adds up the samples of a name whose labels include all of labels, each
// written as `topic="a"`. A name without a sample fails the test.
func (m Metrics) Sum(tb testing.TB, name string, labels ...string) float64 {
	tb.Helper()
	sum, found := 0.0, false
	for sample, value := range m {
		base, rest, _ := strings.Cut(sample, "{")
		if base != name {
			continue
		}
		matches := true
		for _, label := range labels {
			matches = matches && strings.Contains(rest, label)
		}
		if matches {
			sum, found = sum+value, true
		}
	}
	if !found {
		tb.Fatalf("no metric %s with %q", name, labels)
	}
	return sum
}
