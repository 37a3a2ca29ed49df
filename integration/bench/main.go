// Command bench measures strata against Apache Kafka on this machine: the same
// client, disk, settings and promise, one leg of each in turn. It is run by
// `make bench`; integration/bench/RESULTS.md is what it writes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stratabroker/strata/integration/bench/lab"
	"github.com/stratabroker/strata/integration/bench/load"
	"github.com/stratabroker/strata/integration/bench/report"
	"github.com/stratabroker/strata/integration/bench/store"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func allRows() []row {
	return slices.Concat(selfRows(), produceRows(), consumeRows(), latencyRows(), startRows(), memoryRows(), curveRows(), tierRows())
}

// bodies are those of the processes that a run starts.
var bodies = map[string]func(ctx context.Context, arg string) error{
	"load": func(_ context.Context, spec string) error { return load.Main(spec, os.Stdin, os.Stdout) },
	"proxy": func(ctx context.Context, target string) error {
		return store.ServeProxy(ctx, target, os.Stdin, os.Stdout)
	},
	"gets": store.ServeGets,
}

func command(ctx context.Context, args []string) error {
	if len(args) == 2 {
		if body, ok := bodies[args[0]]; ok {
			return body(ctx, args[1])
		}
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	names := flags.String("rows", "", "rows to run: names or patterns such as consume-*, with commas; list shows them; empty runs all")
	pairs := flags.Int("pairs", 5, "pairs of legs that count")
	folder := flags.String("work", "", "folder for the brokers' data, on the disk to be measured")
	binary := flags.String("strata", "bin/strata", "the strata binary")
	libs := flags.String("kafka", "", "folder of Kafka's jars; found in the cache when empty")
	out := flags.String("out", "integration/bench", "folder of RESULTS.md, the pictures and results.json")
	profiled := flags.Bool("profiles", false, "write PROFILES.md and run no row; the binary needs its symbols")
	before := flags.String("before", "", "a strata binary to set beside in PROFILES.md")
	render := flags.Bool("render", false, "write the report again from results.json, and run nothing")
	if err := flags.Parse(args); err != nil {
		return err
	}
	rows, err := choose(allRows(), *names)
	if err != nil || rows == nil {
		return err
	}
	if *render {
		all, err := report.Load(filepath.Join(*out, resultsFile))
		return errors.Join(err, report.Write(*out, abouts(), all))
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	if *folder == "" {
		*folder = filepath.Join(cache, "strata", "bench")
	}
	if *libs == "" {
		if *libs, err = newest(filepath.Join(cache, "strata", "kafka-*", "libs")); err != nil {
			return err
		}
	}
	l, err := lab.New(*folder, *libs, *binary, self)
	if err != nil {
		return err
	}
	if *profiled {
		err = profiles(ctx, l, *before, *out)
	} else {
		err = runRows(ctx, l, rows, *pairs, *out)
	}
	return errors.Join(err, l.Close())
}

const resultsFile = "results.json"

// newest is the last in the order of names of what matches.
func newest(pattern string) (string, error) {
	found, err := filepath.Glob(pattern)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("nothing at %s: integration/setup.sh kafka puts it there", pattern)
	}
	if err != nil {
		return "", err
	}
	return slices.Max(found), nil
}

// choose finds the rows that are asked for, in the order of all; none and no error means that they were listed.
func choose(all []row, names string) ([]row, error) {
	if names == "" {
		return all, nil
	}
	if names == "list" {
		for _, r := range all {
			fmt.Printf("%-16s %s\n", r.Name, r.Title)
		}
		return nil, nil
	}
	chosen := make([]bool, len(all))
	for name := range strings.SplitSeq(names, ",") {
		found := false
		for i, r := range all {
			matches, err := path.Match(name, r.Name)
			if err != nil {
				return nil, fmt.Errorf("rows %q: %w", name, err)
			}
			chosen[i] = chosen[i] || matches
			found = found || matches
		}
		if !found {
			return nil, fmt.Errorf("no row %q; -rows list shows them, and \"consume-*\" is all that begin so", name)
		}
	}
	var out []row
	for i, r := range all {
		if chosen[i] {
			out = append(out, r)
		}
	}
	return out, nil
}

// abouts are all rows as the report needs them.
func abouts() (out []report.Row) {
	for _, r := range allRows() {
		out = append(out, r.Row)
	}
	return out
}

// runRows runs rows and writes the report after each, so that an error later loses none.
func runRows(ctx context.Context, l *lab.Lab, rows []row, pairs int, out string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	file := filepath.Join(out, resultsFile)
	all, err := report.Load(file)
	if err != nil {
		return err
	}
	var errs []error
	for _, row := range rows {
		result, err := runRow(ctx, l, row, pairs)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("row %s: %w", row.Name, err))
			fmt.Fprintln(os.Stderr, "bench:", errs[len(errs)-1])
			continue
		}
		all = report.Merge(all, result)
		if err := errors.Join(report.Save(file, all), report.Write(out, abouts(), all)); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

func runRow(ctx context.Context, l *lab.Lab, row row, pairs int) (report.Result, error) {
	r := &run{Lab: l, pairs: pairs, out: os.Stdout}
	machine, err := l.Machine(ctx)
	if err != nil {
		return report.Result{}, err
	}
	begun := time.Now()
	r.say("%s: %s", row.Name, row.Title)
	if err = l.NeedDisk(row.disk.bytes(pairs)); err == nil {
		err = errors.Join(row.run(ctx, r), r.close())
	}
	result := report.Result{
		Row: row.Name, When: begun.UTC().Truncate(time.Second), Took: time.Since(begun).Seconds(), Pairs: pairs,
		Machine: machine, Samples: r.samples, Notes: r.notes,
	}
	r.say("%s: took %s", row.Name, time.Since(begun).Round(time.Second))
	return result, err
}

// inBrief is a leg's values in one line.
func inBrief(values map[string]float64) string {
	var parts []string
	for _, key := range slices.Sorted(func(yield func(string) bool) {
		for key := range values {
			if !yield(key) {
				return
			}
		}
	}) {
		parts = append(parts, fmt.Sprintf("%s %.4g", key, values[key]))
	}
	return strings.Join(parts, "  ")
}
