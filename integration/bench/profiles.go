package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/stratabroker/strata/integration/bench/lab"
	"github.com/stratabroker/strata/integration/bench/load"
	"github.com/stratabroker/strata/integration/bench/report"
)

const (
	profilesFile = "PROFILES.md"
	profileLimit = 8 * time.Second
	profileBytes = 8 << 30 // of what is produced
	gcTrace      = "GODEBUG=gctrace=1"
)

// hotPath is a path that is profiled.
type hotPath struct {
	title, method string
	profile       func(context.Context, *run) (*report.Profile, error)
}

var hotPaths = []hotPath{
	{
		"Produce", "The load of row produce-cache: 1 KiB records, acks=all, page cache.",
		func(ctx context.Context, r *run) (*report.Profile, error) {
			b, err := r.start(ctx, pageCache.strata())
			if err != nil {
				return nil, err
			}
			if err := b.CreateTopic(ctx, topic, batched.Partitions); err != nil {
				return nil, err
			}
			if _, err := r.Run(ctx, b, batched); err != nil { // warm
				return nil, err
			}
			spec := batched
			spec.Bytes, spec.Limit = profileBytes, profileLimit
			return r.profile(ctx, b, spec)
		},
	},
	{
		"Hot fetch", "The load of row consume-1: a group of 3 members reads 6 partitions from the page cache.",
		func(ctx context.Context, r *run) (*report.Profile, error) {
			b, err := r.start(ctx, pageCache.strata())
			if err != nil {
				return nil, err
			}
			if err := b.CreateTopic(ctx, topic, batched.Partitions); err != nil {
				return nil, err
			}
			if err := r.stock(ctx, b, storedBytes); err != nil {
				return nil, err
			}
			spec := consume(1)
			if _, err := r.Run(ctx, b, spec); err != nil { // warm
				return nil, err
			}
			spec.Bytes, spec.Limit = 0, profileLimit
			return r.profile(ctx, b, spec)
		},
	},
	{
		"Cold fetch", "The load of row catchup-32: one consumer reads 32 partitions, 2 GiB, from MinIO behind a proxy that lets 200 MB/s pass.",
		func(ctx context.Context, r *run) (*report.Profile, error) {
			const partitions = 32
			t, err := r.openTier(ctx, partitions, partitions*(segmentBytes-(1<<20)), nil)
			if err != nil {
				return nil, err
			}
			spec := catchUp(partitions)
			spec.Bytes = 0 // once over all
			return r.profile(ctx, t.broker, spec)
		},
	},
}

// profile runs one load and tells where the broker's CPU time went meanwhile, and what its heap gave.
func (r *run) profile(ctx context.Context, b *lab.Broker, spec load.Spec) (*report.Profile, error) {
	if err := r.Settle(); err != nil {
		return nil, err
	}
	before, err := b.Output()
	if err != nil {
		return nil, err
	}
	var m lab.Measured
	perf, err := b.Perf(ctx, func() (err error) {
		m, err = r.Run(ctx, b, spec)
		return err
	})
	if err != nil {
		return nil, err
	}
	functions, err := report.ParsePerf(perf)
	if err != nil {
		return nil, err
	}
	after, err := b.Output()
	if err != nil {
		return nil, err
	}
	allocated := report.Collected(after[len(before):])
	gigabytes := float64(m.Bytes) / 1e9
	r.say("  %.2f GB in %.1f s, %.3f s/GB of the broker's CPU, %d functions", gigabytes, m.Seconds, m.BrokerCPU/gigabytes, len(functions))
	return &report.Profile{
		Functions: functions, Cost: m.BrokerCPU / gigabytes, Allocated: allocated / gigabytes, Request: allocated / float64(m.Requests),
	}, nil
}

// profiles profiles the hot paths of the lab's binary, and of the one before where one is given, and writes PROFILES.md.
func profiles(ctx context.Context, l *lab.Lab, before, out string) error {
	now := *l
	was := *l
	was.Strata = before
	versions := map[*lab.Lab]string{&was: "none"}
	labs := []*lab.Lab{&now}
	if before != "" {
		labs = []*lab.Lab{&was, &now}
	}
	machine := report.Machine{}
	for _, l := range labs {
		var err error
		if machine, err = l.Machine(ctx); err != nil {
			return err
		}
		versions[l] = machine.Strata
	}
	var paths []report.Path
	for _, h := range hotPaths {
		p := report.Path{Title: h.title, Method: h.method}
		for _, l := range labs {
			r := &run{Lab: l, pairs: 1, out: os.Stdout, env: []string{gcTrace}}
			r.say("%s of %s", h.title, versions[l])
			profile, err := h.profile(ctx, r)
			if err := errors.Join(err, r.close()); err != nil {
				return fmt.Errorf("profile of %s, %s: %w", h.title, versions[l], err)
			}
			if l == &now {
				p.After = profile
			} else {
				p.Before = profile
			}
		}
		paths = append(paths, p)
	}
	allocations, err := benchmarks(ctx)
	if err != nil {
		return err
	}
	head := fmt.Sprintf("Written by `make bench-profiles BEFORE=%s`; do not edit. %s, on %s with %d cores, %s, Linux %s. "+
		"Each load runs alone, while perf samples the broker's threads %s (in a virtual machine by a clock, which sees what the kernel does with interrupts off where they come on again). "+
		"The broker is as it is shipped, but for its symbols, and GODEBUG=gctrace=1, whose lines tell in whole MB what Go's heap gave between collections: 0 is fewer than two of them.",
		versions[&was], time.Now().UTC().Format("2006-01-02 15:04 MST"), machine.CPU, machine.Cores, machine.Memory, machine.Kernel, "997 times a second")
	page := report.Profiles(head, versions[&was], versions[&now], paths, allocations)
	return os.WriteFile(filepath.Join(out, profilesFile), []byte(page), 0o644)
}

// pathBenchmarks are Go's benchmarks of the hot paths, by package.
var pathBenchmarks = map[string]string{
	"./broker/server":  "^(BenchmarkProduceRequest|BenchmarkFetchRequest)$",
	"./broker/log":     "^(BenchmarkAppendBatch|BenchmarkReadSizes)$",
	"./broker/replica": "^BenchmarkFetchPlan$/^partitions=6$",
	"./tiering":        "^BenchmarkColdFetch$",
}

// benchmarks runs them, from the module's root.
func benchmarks(ctx context.Context) (all []report.Allocations, err error) {
	for _, path := range slices.Sorted(maps.Keys(pathBenchmarks)) {
		out, err := exec.CommandContext(ctx, "go", "test", "-run", "-", "-bench", pathBenchmarks[path], "-benchmem", "-benchtime", "1s", path).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("benchmarks of %s: %w\n%s", path, err, out)
		}
		found := report.ParseBenchmarks(string(out))
		if len(found) == 0 {
			return nil, fmt.Errorf("benchmarks of %s: none ran\n%s", path, out)
		}
		all = append(all, found...)
	}
	return all, nil
}
