package objecttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/stratabroker/strata/tiering/object"
)

// Op is one operation of a Store.
type Op uint8

// The operations, for rules and counts.
const (
	OpPut Op = iota
	OpPutIf
	OpGet
	OpGetAll
	OpList
	OpDelete
	ops
)

// String is the operation's name.
func (o Op) String() string {
	return [...]string{"Put", "PutIf", "Get", "GetAll", "List", "Delete"}[o]
}

// ErrInjected is what a failed operation returns where the rule names no error:
// an outage of unknown effect.
var ErrInjected = errors.New("injected failure")

// Rule says which operations fail and how. All of its effects apply to a hit.
type Rule struct {
	Ops   []Op   // none: all
	Key   string // regular expression over the key (List: the prefix; Delete: any of the keys); "": all
	Skip  int    // so many matching operations pass first: the nth failure is Skip n-1
	Times int    // how many operations are hit; 0: all until the rule is removed

	Delay   time.Duration // waits so long first, or until the context ends (which is then the error)
	Err     error         // fails without having had an effect; object.ErrThrottled is a 503 storm
	LoseAck bool          // takes effect, then returns ErrInjected
	Short   bool          // a read returns the first half of its bytes, without an error
	Corrupt bool          // a read returns its bytes with one bit turned over; a listing loses its last entry
	Hold    *Hold         // waits at the gate, see Hold
}

// Faulty wraps a Store and makes operations fail by rules. Rules act in the
// order in which they were added. It may be used concurrently, as any Store.
type Faulty struct {
	inner object.Store
	quit  chan struct{} // closed by Close: held operations give up

	wg sync.WaitGroup // held operations

	mu     sync.Mutex
	rules  []*rule  // guarded by mu
	counts [ops]int // guarded by mu
	closed bool     // guarded by mu
}

type rule struct {
	Rule
	key  *regexp.Regexp
	seen int // matching operations so far
	hits int
}

var _ object.Store = (*Faulty)(nil)

// NewFaulty wraps inner, which it closes with itself. Without rules it only counts.
func NewFaulty(inner object.Store) *Faulty {
	return &Faulty{inner: inner, quit: make(chan struct{})}
}

// Add puts a rule in force and returns what takes it out of force again.
func (f *Faulty) Add(r Rule) (remove func()) {
	added := &rule{Rule: r, key: regexp.MustCompile(r.Key)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, added)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.rules = slices.DeleteFunc(f.rules, func(r *rule) bool { return r == added })
	}
}

// Reset removes all rules. What is held stays held.
func (f *Faulty) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
}

// Count is how many operations of this kind were started, failed ones included.
func (f *Faulty) Count(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts[op]
}

// hit counts an operation and returns the rules that apply to it.
func (f *Faulty) hit(op Op, keys ...string) []Rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[op]++
	var hits []Rule
	for _, r := range f.rules {
		if len(r.Ops) > 0 && !slices.Contains(r.Ops, op) || !slices.ContainsFunc(keys, r.key.MatchString) {
			continue
		}
		r.seen++
		if r.seen <= r.Skip || r.Times > 0 && r.hits >= r.Times {
			continue
		}
		r.hits++
		hits = append(hits, r.Rule)
	}
	return hits
}

// run does one operation under the rules that hit it. do is the operation
// itself; spoil damages what it read.
func (f *Faulty) run(ctx context.Context, what string, hits []Rule, do func(context.Context) error, spoil func(Rule)) error {
	for _, r := range hits {
		if err := wait(ctx, r.Delay); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	for _, r := range hits {
		if r.Hold != nil {
			return f.hold(ctx, what, r.Hold, func(ctx context.Context) error { return f.act(ctx, what, hits, do, spoil) })
		}
	}
	return f.act(ctx, what, hits, do, spoil)
}

func (f *Faulty) act(ctx context.Context, what string, hits []Rule, do func(context.Context) error, spoil func(Rule)) error {
	for _, r := range hits {
		if r.Err != nil {
			return fmt.Errorf("%s: %w", what, r.Err)
		}
	}
	if err := do(ctx); err != nil {
		return err
	}
	for _, r := range hits {
		if r.LoseAck {
			return fmt.Errorf("%s: acknowledgement lost: %w", what, ErrInjected)
		}
		if spoil != nil {
			spoil(r)
		}
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Put implements object.Store.
func (f *Faulty) Put(ctx context.Context, key string, body io.ReadSeeker, size int64) error {
	hits := f.hit(OpPut, key)
	if slices.ContainsFunc(hits, func(r Rule) bool { return r.Hold != nil }) {
		// A held Put outlives its caller, and so must its bytes.
		b, err := io.ReadAll(object.NewSection(body, size))
		if err != nil {
			return fmt.Errorf("put %s: %w", key, err)
		}
		body = bytes.NewReader(b)
	}
	return f.run(ctx, "put "+key, hits, func(ctx context.Context) error { return f.inner.Put(ctx, key, body, size) }, nil)
}

// PutIf implements object.Store.
func (f *Faulty) PutIf(ctx context.Context, key string, body []byte, match string) (string, error) {
	var version string
	body = bytes.Clone(body)
	err := f.run(ctx, "put "+key, f.hit(OpPutIf, key), func(ctx context.Context) (err error) {
		version, err = f.inner.PutIf(ctx, key, body, match)
		return err
	}, nil)
	if err != nil {
		return "", err
	}
	return version, nil
}

// Get implements object.Store.
func (f *Faulty) Get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	var b []byte
	err := f.run(ctx, "get "+key, f.hit(OpGet, key), func(ctx context.Context) (err error) {
		b, err = f.inner.Get(ctx, key, offset, length)
		return err
	}, func(r Rule) { b = spoil(b, r) })
	if err != nil {
		return nil, err
	}
	return b, nil
}

// GetAll implements object.Store.
func (f *Faulty) GetAll(ctx context.Context, key string, limit int64) ([]byte, string, error) {
	var b []byte
	var version string
	err := f.run(ctx, "get "+key, f.hit(OpGetAll, key), func(ctx context.Context) (err error) {
		b, version, err = f.inner.GetAll(ctx, key, limit)
		return err
	}, func(r Rule) { b = spoil(b, r) })
	if err != nil {
		return nil, "", err
	}
	return b, version, nil
}

func spoil(b []byte, r Rule) []byte {
	if r.Short {
		b = b[:len(b)/2]
	}
	if r.Corrupt && len(b) > 0 {
		b[len(b)/2] ^= 1 << 3
	}
	return b
}

// List implements object.Store. The rules act on the listing as a whole.
func (f *Faulty) List(ctx context.Context, prefix, after string) iter.Seq2[object.Info, error] {
	return func(yield func(object.Info, error) bool) {
		var infos []object.Info
		err := f.run(ctx, "list "+prefix, f.hit(OpList, prefix), func(ctx context.Context) error {
			for info, err := range f.inner.List(ctx, prefix, after) {
				if err != nil {
					return err
				}
				infos = append(infos, info)
			}
			return nil
		}, func(r Rule) {
			if r.Short {
				infos = infos[:len(infos)/2]
			}
			if r.Corrupt && len(infos) > 0 {
				infos = infos[:len(infos)-1]
			}
		})
		if err != nil {
			yield(object.Info{}, err)
			return
		}
		for _, info := range infos {
			if !yield(info, nil) {
				return
			}
		}
	}
}

// Delete implements object.Store.
func (f *Faulty) Delete(ctx context.Context, keys []string) error {
	keys = slices.Clone(keys)
	what := fmt.Sprintf("delete %d objects", len(keys))
	return f.run(ctx, what, f.hit(OpDelete, keys...), func(ctx context.Context) error { return f.inner.Delete(ctx, keys) }, nil)
}

// Close gives up what is still held (it never takes effect), waits for it, and
// closes the wrapped store.
func (f *Faulty) Close() error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil
	}
	f.closed = true
	f.mu.Unlock()
	close(f.quit)
	f.wg.Wait()
	return f.inner.Close()
}
