package objecttest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/stratabroker/strata/tiering/object"
)

func putIfAbsent(t subject) {
	s := t.store
	version, err := s.PutIf(t.Context(), "OWNER", []byte("one"), "")
	if err != nil {
		t.Fatal(err)
	}
	if got := wantAll(t, s, "OWNER", []byte("one")); got != version {
		t.Errorf("GetAll tells version %q, PutIf %q", got, version)
	}
	_, err = s.PutIf(t.Context(), "OWNER", []byte("two"), "")
	wantErr(t, err, object.ErrPrecondition, "PutIf absent over an object")
	wantAll(t, s, "OWNER", []byte("one"))
	Put(t, s, "a/plain", []byte("x"))
	_, err = s.PutIf(t.Context(), "a/plain", []byte("y"), "")
	wantErr(t, err, object.ErrPrecondition, "PutIf absent over what Put wrote")
}

func putIfMatch(t subject) {
	s := t.store
	v1, err := s.PutIf(t.Context(), "OWNER", []byte("one"), "")
	if err != nil {
		t.Fatal(err)
	}
	v2, err := s.PutIf(t.Context(), "OWNER", []byte("two"), v1)
	if err != nil {
		t.Fatal(err)
	}
	if v1 == v2 {
		t.Errorf("two bodies have one version %q", v1)
	}
	_, err = s.PutIf(t.Context(), "OWNER", []byte("three"), v1)
	wantErr(t, err, object.ErrPrecondition, "PutIf at a stale version")
	if got := wantAll(t, s, "OWNER", []byte("two")); got != v2 {
		t.Errorf("version %q, want %q", got, v2)
	}
	if err := s.Delete(t.Context(), []string{"OWNER"}); err != nil {
		t.Fatal(err)
	}
	_, err = s.PutIf(t.Context(), "OWNER", []byte("three"), v2)
	wantErr(t, err, object.ErrPrecondition, "PutIf at the version of a deleted object")
	if _, err = s.PutIf(t.Context(), "OWNER", []byte("four"), ""); err != nil {
		t.Errorf("PutIf absent after Delete: %v", err)
	}
}

func probe(t subject) {
	s := t.store
	for range 2 {
		if ok, err := object.ProbeConditional(t.Context(), s, "probe/scratch"); err != nil || !ok {
			t.Fatalf("ProbeConditional: %v, %v", ok, err)
		}
	}
	if keys := List(t, s, "", ""); len(keys) > 0 {
		t.Errorf("the probe left %q", keys)
	}
}

// parallel runs f n times at once and waits.
func parallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

func putIfRace(t subject) {
	s := t.store
	const racers = 32
	match := ""
	for round := range 3 {
		versions := make([]string, racers)
		errs := make([]error, racers)
		parallel(racers, func(i int) {
			versions[i], errs[i] = s.PutIf(t.Context(), "OWNER", fmt.Appendf(nil, "round %d racer %d", round, i), match)
		})
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner >= 0:
				t.Fatalf("round %d: racers %d and %d both won", round, winner, i)
			case err == nil:
				winner = i
			case !errors.Is(err, object.ErrPrecondition):
				t.Logf("round %d racer %d: %v", round, i, err) // unknown, but not a win
			}
		}
		if winner < 0 {
			t.Fatalf("round %d: nobody won", round)
		}
		match = wantAll(t, s, "OWNER", fmt.Appendf(nil, "round %d racer %d", round, winner))
		if match != versions[winner] {
			t.Errorf("round %d: version %q, the winner was told %q", round, match, versions[winner])
		}
	}
}

// putIfCounter adds up by compare and swap: a lost update shows in the sum.
func putIfCounter(t subject) {
	s := t.store
	const workers, each = 4, 5
	if _, err := s.PutIf(t.Context(), "counter", []byte("0"), ""); err != nil {
		t.Fatal(err)
	}
	parallel(workers, func(int) {
		for done := 0; done < each; {
			body, version, err := s.GetAll(t.Context(), "counter", 100)
			if err != nil {
				t.Errorf("GetAll: %v", err)
				return
			}
			n, err := strconv.Atoi(string(body))
			if err != nil {
				t.Errorf("torn counter: %v", err)
				return
			}
			switch _, err := s.PutIf(t.Context(), "counter", strconv.AppendInt(nil, int64(n+1), 10), version); {
			case err == nil:
				done++
			case !errors.Is(err, object.ErrPrecondition):
				t.Errorf("PutIf: %v", err)
				return
			}
		}
	})
	wantAll(t, s, "counter", []byte(strconv.Itoa(workers*each)))
}

func readYourWrites(t subject) {
	s := t.store
	parallel(8, func(i int) {
		for j := range 5 {
			key, body := fmt.Sprintf("w/%d/%d", i, j), random(uint64(i*100+j), 1000+j)
			Put(t, s, key, body)
			wantAll(t, s, key, body)
			if keys := List(t, s, key, ""); !slices.Equal(keys, []string{key}) {
				t.Errorf("%s is not listed after its Put: %q", key, keys)
			}
			if j%2 == 0 {
				continue
			}
			if err := s.Delete(t.Context(), []string{key}); err != nil {
				t.Errorf("Delete: %v", err)
			}
			_, err := s.Get(t.Context(), key, 0, 1)
			wantErr(t, err, object.ErrNotFound, "Get after Delete")
		}
	})
}

func deleteMany(t subject) {
	s := t.store
	if err := s.Delete(t.Context(), nil); err != nil {
		t.Errorf("Delete of nothing: %v", err)
	}
	var keys []string
	for i := range 1100 { // more than one request of S3 takes
		keys = append(keys, fmt.Sprintf("gone/%d/%04d", i%3, i))
	}
	parallel(16, func(worker int) {
		for i := worker; i < len(keys); i += 16 {
			if i%10 != 0 { // these are missing
				Put(t, s, keys[i], []byte("x"))
			}
		}
	})
	Put(t, s, "gone/1/kept", []byte("x"))
	for range 2 {
		if err := s.Delete(t.Context(), keys); err != nil {
			t.Fatal(err)
		}
		if left := List(t, s, "", ""); !slices.Equal(left, []string{"gone/1/kept"}) {
			t.Fatalf("left after Delete: %d objects", len(left))
		}
	}
	// A part of other names is not a name.
	if err := s.Delete(t.Context(), []string{"gone", "gone/1", "gone/1/kept/below"}); err != nil {
		t.Fatal(err)
	}
	wantAll(t, s, "gone/1/kept", []byte("x"))
}

func putDeleteRace(t subject) {
	s := t.store
	parallel(8, func(i int) {
		key := fmt.Sprintf("deep/er/folder/%d", i)
		for range 10 {
			Put(t, s, key, []byte(key))
			wantAll(t, s, key, []byte(key))
			if err := s.Delete(t.Context(), []string{key}); err != nil {
				t.Errorf("Delete: %v", err)
			}
		}
	})
	if keys := List(t, s, "", ""); len(keys) > 0 {
		t.Errorf("left: %q", keys)
	}
}
