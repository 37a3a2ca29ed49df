package tiering_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stratabroker/strata/protocol"
	"github.com/stratabroker/strata/tiering"
	"github.com/stratabroker/strata/tiering/object"
	"github.com/stratabroker/strata/tiering/object/mem"
)

// streamed is a store that gives ranges bit by bit, and shows what is done to them.
type streamed struct {
	*mem.Store

	mu    sync.Mutex
	open  int                   // streams not closed; guarded by mu
	opens int                   // of segments, so far; guarded by mu
	read  int64                 // bytes of segments taken from streams; guarded by mu
	fail  func(off int64) error // what a Read at an offset of its object meets, if anything; guarded by mu
}

func (s *streamed) OpenRange(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	body, err := s.Store.OpenRange(ctx, key, offset, length)
	if err != nil || !strings.HasSuffix(key, ".seg") || length < 10_000 {
		return body, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
	s.opens++
	return &streamedBody{ReadCloser: body, of: s, at: offset}, nil
}

type streamedBody struct {
	io.ReadCloser
	of   *streamed
	at   int64
	once sync.Once
}

func (b *streamedBody) Read(p []byte) (int, error) {
	b.of.mu.Lock()
	defer b.of.mu.Unlock()
	if b.of.fail != nil {
		if err := b.of.fail(b.at); err != nil {
			return 0, err
		}
	}
	n, err := b.ReadCloser.Read(p)
	b.at += int64(n)
	b.of.read += int64(n)
	return n, err
}

func (b *streamedBody) Close() error {
	b.once.Do(func() {
		b.of.mu.Lock()
		defer b.of.mu.Unlock()
		b.of.open--
	})
	return b.ReadCloser.Close()
}

func (s *streamed) state() (open, opens int, read int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open, s.opens, s.read
}

// streamWorld is a partition of segments of 100 batches of 10 KB, and a reader through a store of streams.
func streamWorld(t *testing.T, segments int, change func(*tiering.ReaderConfig)) (*world, *streamed, *tiering.Reader) {
	t.Helper()
	w := newWorld(t, 1)
	for range segments {
		w.seal(w.key(0), 100, 10_000, 1000)
	}
	w.tier()
	s := &streamed{Store: w.bucket}
	cfg := tiering.ReaderConfig{Store: s, Metadata: w.log, Rand: w.source()}
	if change != nil {
		change(&cfg)
	}
	r := tiering.NewReader(cfg)
	t.Cleanup(r.Close)
	return w, s, r
}

// step reads a little more of a partition and gives where it ended.
func (w *world) step(r *tiering.Reader, from protocol.Offset, most int) protocol.Offset {
	w.t.Helper()
	f, err := r.Read(w.t.Context(), w.key(0), from, most, true)
	if err != nil || !bytes.Equal(f.Batches, w.written(w.key(0), from, f.Next)) {
		w.t.Fatalf("from %d to %d: %v", from, f.Next, err)
	}
	f.Release()
	return f.Next
}

// TestALongGETRestsBetweenReads has a reader that is slower than the store: what is loaded ahead
// of it stays within its window, though one GET brings all of a segment.
func TestALongGETRestsBetweenReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const window, chunk = 300_000, 128 << 10
		w, s, r := streamWorld(t, 5, func(c *tiering.ReaderConfig) { c.ReadAheadBytes = window })
		for from := protocol.Offset(0); from < 500; {
			from = w.step(r, from, 50_000)
			time.Sleep(time.Second)
			if _, _, read := s.state(); read > int64(from)*10_100+window+3*chunk {
				t.Fatalf("at %d %d bytes were loaded", from, read)
			}
		}
		synctest.Wait()
		if open, opens, _ := s.state(); open != 0 || opens > 2*5 {
			t.Errorf("%d GETs, %d are still open", opens, open)
		}
	})
}

// TestARestingGETEndsWhenItsReaderStaysAway and one that comes back later begins another.
func TestARestingGETEndsWhenItsReaderStaysAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, r := streamWorld(t, 1, func(c *tiering.ReaderConfig) { c.ReadAheadBytes = 150_000 })
		from := protocol.Offset(0)
		for range 3 {
			from = w.step(r, from, 50_000)
			synctest.Wait()
		}
		if open, _, _ := s.state(); open != 1 {
			t.Fatalf("%d GETs rest", open)
		}
		time.Sleep(11 * time.Second)
		if open, _, _ := s.state(); open != 0 {
			t.Errorf("%d GETs are still open", open)
		}
		for from < 100 {
			from = w.step(r, from, 50_000)
		}
	})
}

// TestSmallReadsLoadLittle is about readers that jump about.
func TestSmallReadsLoadLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, r := streamWorld(t, 5, nil)
		for i, from := range []protocol.Offset{400, 30, 250, 120, 470, 60, 330, 180} {
			w.step(r, from, 10_100)
			synctest.Wait()
			if _, _, read := s.state(); read > int64(i+1)*3*(128<<10) {
				t.Fatalf("after %d reads %d bytes were loaded", i+1, read)
			}
		}
		if open, _, _ := s.state(); open != 0 || r.Stats().ReadAhead != 0 {
			t.Errorf("%d GETs are open; %+v", open, r.Stats())
		}
	})
}

// TestAGETThatBreaksGoesOnWhereItWas has connections cut and bytes spoiled in the middle of long answers.
func TestAGETThatBreaksGoesOnWhereItWas(t *testing.T) {
	for name, err := range map[string]error{"cut off": io.ErrUnexpectedEOF, "ended early": io.EOF} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, s, r := streamWorld(t, 2, nil)
				broken := map[int64]bool{}
				s.fail = func(off int64) error {
					if off%(256<<10) == 0 && off > 0 && !broken[off] {
						broken[off] = true
						return err
					}
					return nil
				}
				for from := protocol.Offset(0); from < 200; {
					from = w.step(r, from, 100_000)
				}
				synctest.Wait()
				if stats := r.Stats(); stats.Torn+stats.GetErrors == 0 || stats.FetchErrors != 0 || stats.GetBytes > 2*1_100_000 {
					t.Errorf("%+v", stats)
				}
			})
		})
	}
}

// TestAStoreThatSendsNothingMeetsTheDeadline of the GET, however long the range is, and the reader its own.
func TestAStoreThatSendsNothingMeetsTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.seal(w.key(0), 100, 10_000, 1000)
		w.tier()
		stuck := &stuckStore{Store: w.bucket}
		r := tiering.NewReader(tiering.ReaderConfig{Store: stuck, Metadata: w.log, Rand: w.source(), Deadline: 5 * time.Second})
		defer r.Close()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Read(ctx, w.key(0), 0, 1000, true); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		_, err := r.Read(t.Context(), w.key(0), 0, 1000, true)
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took < 15*time.Second || took > 20*time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// stuckStore sends the heads of its answers only.
type stuckStore struct{ *mem.Store }

type stuckBody struct{ ctx context.Context } //nolint:containedctx // as an HTTP body has one

func (b stuckBody) Read([]byte) (int, error) {
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

func (stuckBody) Close() error { return nil }

func (s *stuckStore) OpenRange(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if strings.HasSuffix(key, ".seg") && offset == 0 {
		return stuckBody{ctx}, nil
	}
	return s.Store.OpenRange(ctx, key, offset, length)
}

// TestManyReadersOfOneObject checks every byte while readers at many places cut each other's GETs
// short, in a cache that holds few chunks, with deadlines that often end their waiting.
func TestManyReadersOfOneObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, r := streamWorld(t, 3, func(c *tiering.ReaderConfig) { c.CacheBytes, c.Parallel = 1<<20, 2 })
		s.fail = func(off int64) error {
			if rand.IntN(50) == 0 {
				return object.ErrThrottled
			}
			return nil
		}
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(i), 7))
				from := protocol.Offset(rnd.IntN(300))
				for range 40 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+rnd.IntN(3000))*time.Millisecond)
					f, err := r.Read(ctx, w.key(0), from, rnd.IntN(400_000), true)
					cancel()
					switch {
					case errors.Is(err, context.DeadlineExceeded), errors.Is(err, object.ErrThrottled):
					case err != nil:
						t.Errorf("from %d: %v", from, err)
					case !bytes.Equal(f.Batches, w.written(w.key(0), from, f.Next)):
						t.Errorf("[%d, %d): wrong bytes", from, f.Next)
					default:
						from = f.Next
					}
					f.Release()
					if from == 300 || rnd.IntN(10) == 0 {
						from = protocol.Offset(rnd.IntN(300))
					}
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Minute)
		if open, _, _ := s.state(); open != 0 || r.Stats().CacheBytes > 1<<20 || r.Stats().AnswerBytes != 0 {
			t.Errorf("%d GETs are open; %+v", open, r.Stats())
		}
	})
}

// gatedStore notes the order in which segments are opened; what they send comes once the gate is open.
type gatedStore struct {
	*streamed
	gate chan struct{}

	mu     sync.Mutex
	opened []string // guarded by mu
}

type gatedBody struct {
	io.ReadCloser
	gate chan struct{}
}

func (b gatedBody) Read(p []byte) (int, error) {
	<-b.gate
	return b.ReadCloser.Read(p)
}

func (s *gatedStore) OpenRange(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	s.mu.Lock()
	s.opened = append(s.opened, key)
	s.mu.Unlock()
	body, err := s.streamed.OpenRange(ctx, key, offset, length)
	return gatedBody{body, s.gate}, err
}

// TestAReadThatComesBackKeepsItsPlace among those that wait for a slot; one that stays away loses it.
func TestAReadThatComesBackKeepsItsPlace(t *testing.T) {
	for _, comesBack := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var s *gatedStore
			w, _, r := streamWorld(t, 3, func(c *tiering.ReaderConfig) {
				s = &gatedStore{streamed: c.Store.(*streamed), gate: make(chan struct{})}
				c.Store, c.Parallel = s, 1
			})
			close(s.gate)
			for end := protocol.Offset(100); end <= 300; end += 100 {
				w.step(r, end-50, 1) // its index is cached now, its first chunk is not
			}
			s.gate, s.opened = make(chan struct{}), nil
			var wg sync.WaitGroup
			read := func(from protocol.Offset, wait time.Duration) {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), wait)
					defer cancel()
					f, err := r.Read(ctx, w.key(0), from, 1, true)
					if err != nil && !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("from %d: %v", from, err)
					}
					f.Release()
				})
				synctest.Wait()
			}
			read(0, time.Minute) // has the slot
			read(100, 500*time.Millisecond)
			read(200, time.Minute)
			for range 4 {
				time.Sleep(600 * time.Millisecond)
				if comesBack {
					read(100, 500*time.Millisecond)
				}
			}
			close(s.gate)
			wg.Wait()
			want := []protocol.Offset{0, 100, 200}
			if !comesBack {
				want = []protocol.Offset{0, 200}
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.opened) != len(want) {
				t.Fatalf("%d segments were opened, want those of %v", len(s.opened), want)
			}
			m := w.manifest(w.log.Image(), w.key(0))
			for i, from := range want {
				if e, _, err := m.Find(w.load, from); err != nil || e.ObjectKey != s.opened[i] {
					t.Errorf("%d was opened as number %d, want that of %d (%v)", i, i, from, err)
				}
			}
		})
	}
}
