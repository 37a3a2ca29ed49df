package tiering

import (
	"context"
	"testing"
	"testing/synctest"
)

func TestSlotsMayBecomeMoreAndFewerWhileTheyAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, got := newSlots(1), make(chan int, 10)
		for i := range 4 {
			go func() {
				if s.acquire(t.Context()) == nil {
					got <- i
				}
			}()
			synctest.Wait()
		}
		want := func(n int, when string) {
			t.Helper()
			synctest.Wait()
			if len(got) != n {
				t.Fatalf("%d have a slot %s, want %d", len(got), when, n)
			}
		}
		want(1, "of one")
		s.resize(3)
		want(3, "of three")
		s.resize(1)
		s.release()
		want(3, "while two hold one too many")
		s.release()
		s.release()
		want(4, "when there is room again")
		s.release()
		if s.used != 0 || len(s.waiting) != 0 {
			t.Errorf("%d used, %d waiting", s.used, len(s.waiting))
		}
	})
}

func TestWhoGivesUpWaitingHoldsNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1)
		if err := s.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.acquire(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-done; err == nil {
			t.Fatal("a slot that was not there")
		}
		s.release()
		if err := s.acquire(t.Context()); err != nil || s.used != 1 || len(s.waiting) != 0 {
			t.Errorf("%v, %d used, %d waiting", err, s.used, len(s.waiting))
		}
	})
}
