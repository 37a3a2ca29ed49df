package replica_test

import (
	"runtime"
	"testing"
)

func TestAnIdlePartitionCostsNearlyNothing(t *testing.T) {
	const partitions, budget = 10_000, 4 << 10 // DESIGN D25
	w := newWorld(t)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, goroutines := heap(), runtime.NumGoroutine()
	w.topic("idle", partitions)
	each := (int64(heap()) - int64(before)) / partitions
	t.Logf("%d bytes of heap a partition, its rows in the image included", each)
	if each > budget {
		t.Errorf("%d bytes of heap a partition, at most %d are allowed", each, budget)
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines more than without partitions", n-goroutines)
	}
	if n := w.fs.OpenFiles(); n != 0 {
		t.Errorf("%d open files", n)
	}
}
