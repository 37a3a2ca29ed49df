package objecttest_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/mem"
	"github.com/stratabroker/strata/tiering/object/objecttest"
)

func TestFaultyWithoutRulesConforms(t *testing.T) {
	objecttest.Run(t, func(*testing.T) object.Store { return objecttest.NewFaulty(mem.New()) })
}

func faulty(t *testing.T) (*objecttest.Faulty, *mem.Store) {
	t.Helper()
	m := mem.New()
	f := objecttest.NewFaulty(m)
	t.Cleanup(func() { _ = f.Close() })
	return f, m
}

func put(f object.Store, ctx context.Context, key string) error { //nolint:revive // the store comes first, as in a method
	return f.Put(ctx, key, strings.NewReader(key), int64(len(key)))
}

func TestTheNthFails(t *testing.T) {
	f, m := faulty(t)
	f.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpPut}, Key: `\.seg$`, Skip: 1, Times: 2, Err: object.ErrThrottled})
	var got []bool
	for _, key := range []string{"a.seg", "b.page", "b.seg", "c.seg", "d.seg"} {
		err := put(f, t.Context(), key)
		if err != nil && !errors.Is(err, object.ErrThrottled) {
			t.Fatal(err)
		}
		got = append(got, err == nil)
	}
	if want := []bool{true, true, false, false, true}; !bytes.Equal(asBytes(got), asBytes(want)) {
		t.Errorf("succeeded: %v, want %v", got, want)
	}
	if keys := strings.Join(m.Keys(), " "); keys != "a.seg b.page d.seg" {
		t.Errorf("stored %s", keys)
	}
	if f.Count(objecttest.OpPut) != 5 || f.Count(objecttest.OpGet) != 0 {
		t.Errorf("counted %d puts", f.Count(objecttest.OpPut))
	}
}

func asBytes(bs []bool) []byte {
	out := make([]byte, len(bs))
	for i, b := range bs {
		if b {
			out[i] = 1
		}
	}
	return out
}

func TestAStormEndsWithItsRule(t *testing.T) {
	f, _ := faulty(t)
	end := f.Add(objecttest.Rule{Err: object.ErrThrottled})
	for range 3 {
		if err := put(f, t.Context(), "a"); !errors.Is(err, object.ErrThrottled) {
			t.Errorf("in the storm: %v", err)
		}
	}
	end()
	if err := put(f, t.Context(), "a"); err != nil {
		t.Errorf("after it: %v", err)
	}
}

func TestALostAcknowledgementTookEffect(t *testing.T) {
	f, m := faulty(t)
	f.Add(objecttest.Rule{LoseAck: true})
	if err := put(f, t.Context(), "a"); !errors.Is(err, objecttest.ErrInjected) {
		t.Errorf("got %v", err)
	}
	if _, err := f.PutIf(t.Context(), "b", []byte("x"), ""); !errors.Is(err, objecttest.ErrInjected) {
		t.Errorf("got %v", err)
	}
	if keys := strings.Join(m.Keys(), " "); keys != "a b" {
		t.Errorf("stored %q", keys)
	}
	if err := f.Delete(t.Context(), []string{"a", "b"}); !errors.Is(err, objecttest.ErrInjected) || len(m.Keys()) > 0 {
		t.Errorf("got %v, left %q", err, m.Keys())
	}
}

func TestTornReads(t *testing.T) {
	f, m := faulty(t)
	objecttest.Put(t, m, "a", []byte("0123456789"))
	f.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpGet}, Short: true})
	f.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpGetAll}, Corrupt: true})
	if b, err := f.Get(t.Context(), "a", 0, 10); err != nil || string(b) != "01234" {
		t.Errorf("short read: %q, %v", b, err)
	}
	b, _, err := f.GetAll(t.Context(), "a", 10)
	if err != nil || len(b) != 10 || string(b) == "0123456789" {
		t.Errorf("corrupt read: %q, %v", b, err)
	}
	if b, err := m.Get(t.Context(), "a", 0, 10); err != nil || string(b) != "0123456789" {
		t.Errorf("the stored object changed: %q, %v", b, err)
	}
}

func TestADelayEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m := faulty(t)
		f.Add(objecttest.Rule{Delay: time.Minute})
		begun := time.Now()
		if err := put(f, t.Context(), "a"); err != nil || time.Since(begun) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := put(f, ctx, "b"); !errors.Is(err, context.DeadlineExceeded) || len(m.Keys()) != 1 {
			t.Errorf("%v, stored %q", err, m.Keys())
		}
	})
}

func TestAHeldPutTakesEffectAfterItsCallerHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m := faulty(t)
		hold := objecttest.NewHold()
		f.Add(objecttest.Rule{Ops: []objecttest.Op{objecttest.OpPut, objecttest.OpPutIf}, Hold: hold})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		body := []byte("late")
		if err := f.Put(ctx, "late", bytes.NewReader(body), 4); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		copy(body, "junk") // the caller's buffer is its own again
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := f.PutIf(t.Context(), "patient", []byte("x"), ""); err != nil {
				t.Errorf("the caller that waited: %v", err)
			}
		})
		if err := hold.Held(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		if len(m.Keys()) > 0 {
			t.Fatalf("stored before the release: %q", m.Keys())
		}
		hold.Release()
		wg.Wait()
		if err := hold.Finished(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		if b, _, err := m.GetAll(t.Context(), "late", 10); err != nil || string(b) != "late" {
			t.Errorf("stored %q, %v", b, err)
		}
		if err := put(f, t.Context(), "later"); err != nil {
			t.Errorf("through the open gate: %v", err)
		}
	})
}

func TestCloseGivesUpWhatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m := faulty(t)
		hold := objecttest.NewHold()
		f.Add(objecttest.Rule{Hold: hold})
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := put(f, t.Context(), "a"); !errors.Is(err, objecttest.ErrInjected) {
				t.Errorf("got %v", err)
			}
		})
		if err := hold.Held(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if len(m.Keys()) > 0 {
			t.Errorf("stored %q", m.Keys())
		}
	})
}
