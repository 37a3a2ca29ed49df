package metadata

import (
	"cmp"
	"iter"
	"slices"

	"github.com/stratabroker/strata/protocol"
)

// Diff is the delta that leads from one image to another, as after the restore
// of a snapshot. It reads every row of both.
func Diff(from, to *Image) Delta {
	d := draft{}
	for b := range changed(from.Brokers(), to.Brokers(), compareBrokers, sameBroker) {
		d.delta.Brokers = append(d.delta.Brokers, b.ID)
	}
	for t := range changed(from.topics.Scan, to.topics.Scan, compareTopics, func(a, b Topic) bool { return a == b }) {
		d.delta.Topics = append(d.delta.Topics, t.ID)
		if _, ok := to.TopicByID(t.ID); !ok {
			d.delta.Removed = append(d.delta.Removed, t)
		}
	}
	byKey := func(a, b Partition) int { return compareKeys(a.Key, b.Key) }
	for p := range changed(from.AllPartitions(), to.AllPartitions(), byKey, samePartition) {
		d.delta.Partitions = append(d.delta.Partitions, p.Key)
	}
	for c := range changed(from.configs.Scan, to.configs.Scan, compareConfigs, func(a, b configRow) bool { return a == b }) {
		d.delta.Configs = append(d.delta.Configs, c.Resource)
	}
	d.delta.Bucket = !sameBucket(from.bucket, to.bucket)
	return d.finish()
}

// changed merges two tables in key order and yields the rows that are in only
// one of them or differ: the one of the table after where it has one.
func changed[T any](before, after iter.Seq[T], order func(a, b T) int, same func(a, b T) bool) iter.Seq[T] {
	return func(yield func(T) bool) {
		next, stop := iter.Pull(before)
		defer stop()
		old, left := next()
		for row := range after {
			for left && order(old, row) < 0 {
				if !yield(old) {
					return
				}
				old, left = next()
			}
			known := left && order(old, row) == 0
			if (!known || !same(old, row)) && !yield(row) {
				return
			}
			if known {
				old, left = next()
			}
		}
		for ; left; old, left = next() {
			if !yield(old) {
				return
			}
		}
	}
}

func compareBrokers(a, b Broker) int { return cmp.Compare(a.ID, b.ID) }

func compareTopics(a, b Topic) int {
	return compareKeys(protocol.PartitionKey{Topic: a.ID}, protocol.PartitionKey{Topic: b.ID})
}

func sameBroker(a, b Broker) bool {
	return a.Epoch == b.Epoch && a.Incarnation == b.Incarnation && a.Rack == b.Rack && a.Fenced == b.Fenced &&
		a.MinVersion == b.MinVersion && a.MaxVersion == b.MaxVersion &&
		slices.Equal(a.Directories, b.Directories) && slices.Equal(a.Listeners, b.Listeners)
}

func samePartition(a, b Partition) bool {
	return sameReplicaState(a, b) && a.PartitionEpoch == b.PartitionEpoch && a.LogStart == b.LogStart && a.Manifest == b.Manifest
}

func sameBucket(a, b Bucket) bool {
	return a.URL == b.URL && a.Generation == b.Generation && a.Floor == b.Floor && a.FloorAtMs == b.FloorAtMs && slices.Equal(a.Roots, b.Roots)
}
