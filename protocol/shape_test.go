package protocol_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/protocol"
)

func errorsIs(err, target error) bool { return errors.Is(err, target) }

// decode reads a body as a handler would.
func decode(h protocol.RequestHeader, body []byte) error {
	if h.Key == protocol.KeyProduce {
		_, err := protocol.DecodeProduce(h.Version, body)
		return err
	}
	req := kmsg.RequestForKey(h.Key)
	req.SetVersion(h.Version)
	return req.ReadFrom(body)
}

func TestShapesAcceptWhatKmsgWrites(t *testing.T) {
	rng := newRand()
	everyVersion(func(api protocol.API, version int16) {
		h := protocol.RequestHeader{Key: api.Key, Version: version}
		for range 200 {
			body := randomRequest(rng, api.Key, version).AppendTo(nil)
			if _, err := protocol.CheckBody(h, body); err != nil {
				t.Fatalf("%s version %d: %v\n% x", api.Name, version, err, body)
			}
			// Every cut must be noticed: else the shape is shorter than the request.
			cut := body[:rng.IntN(len(body)+1)]
			_, err := protocol.CheckBody(h, cut)
			if len(cut) < len(body) && err == nil {
				t.Fatalf("%s version %d: accepts %d of %d bytes", api.Name, version, len(cut), len(body))
			}
		}
	})
}

// mutate makes a body hostile: bytes flipped, lengths that lie, pieces cut and doubled.
func mutate(rng *rand.Rand, body []byte) []byte {
	out := bytes.Clone(body)
	for range 1 + rng.IntN(4) {
		if len(out) == 0 {
			return []byte{byte(rng.IntN(256))}
		}
		at := rng.IntN(len(out))
		switch rng.IntN(5) {
		case 0:
			out[at] = byte(rng.IntN(256))
		case 1: // a huge fixed-width length
			lie := binary.BigEndian.AppendUint32(nil, rng.Uint32()>>rng.IntN(32))
			out = append(out[:at:at], append(lie, out[min(len(out), at+4):]...)...)
		case 2: // a huge varint length
			lie := binary.AppendUvarint(nil, uint64(rng.Uint32()>>rng.IntN(32)))
			out = append(out[:at:at], append(lie, out[min(len(out), at+1):]...)...)
		case 3:
			out = out[:at]
		case 4:
			out = append(out, out[at:]...)
		}
	}
	return out
}

func TestHostileBodiesOfEveryVersion(t *testing.T) {
	rng := newRand()
	accepted, refused := 0, 0
	everyVersion(func(api protocol.API, version int16) {
		h := protocol.RequestHeader{Key: api.Key, Version: version}
		for range 400 {
			body := mutate(rng, randomRequest(rng, api.Key, version).AppendTo(nil))
			_, err := protocol.CheckBody(h, body)
			if err != nil {
				if !errors.Is(err, protocol.ErrMalformed) {
					t.Fatalf("%s version %d: %v", api.Name, version, err)
				}
				refused++
				continue
			}
			accepted++
			if err := decode(h, body); err != nil {
				// Values of known tagged fields are left to kmsg, which reads them in their bounds.
				if api.Key != protocol.KeyFetch {
					t.Fatalf("%s version %d passes the check and fails to decode: %v\n% x", api.Name, version, err, body)
				}
			}
		}
	})
	t.Logf("%d accepted, %d refused", accepted, refused)
}

// allocated runs fn alone and tells how many bytes it took from the heap.
func allocated(fn func()) int {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

// TestDecodeTakesNoMoreThanChecked is the stated bound: what CheckBody says is
// what decoding takes at most, and that is at most MaxDecodeFactor bytes for
// each byte of body.
func TestDecodeTakesNoMoreThanChecked(t *testing.T) {
	rng := newRand()
	worst, worstName := 0.0, ""
	everyVersion(func(api protocol.API, version int16) {
		h := protocol.RequestHeader{Key: api.Key, Version: version}
		for round := range 60 {
			body := randomRequest(rng, api.Key, version).AppendTo(nil)
			if round >= 30 {
				body = mutate(rng, body)
			}
			if round%3 == 0 {
				body = append(body, make([]byte, 64<<10)...)
				lieAboutCounts(rng, body)
			}
			cost, err := protocol.CheckBody(h, body)
			if err != nil {
				continue
			}
			if most := protocol.MaxDecodeFactor*len(body) + 2*protocol.DecodeOverhead; cost > most {
				t.Fatalf("%s version %d: cost %d of %d bytes, most %d", api.Name, version, cost, len(body), most)
			}
			got := allocated(func() { _ = decode(h, body) })
			if got > cost*padding {
				t.Errorf("%s version %d: decoding %d bytes took %d, checked as %d", api.Name, version, len(body), got, cost)
			}
			if f := float64(got) / float64(len(body)); len(body) > 4096 && f > worst {
				worst, worstName = f, api.Name
			}
		}
	})
	t.Logf("densest accepted body: %.1f bytes of memory for each byte (%s)", worst, worstName)
}

// lieAboutCounts overwrites a few places of a body's head with large counts
// that its tail of zeros may well bear out.
func lieAboutCounts(rng *rand.Rand, body []byte) {
	head := len(body) - 64<<10
	for range 2 {
		at := rng.IntN(head + 1)
		if rng.IntN(2) == 0 {
			binary.BigEndian.PutUint32(body[at:], 1000+rng.Uint32N(8000))
		} else {
			binary.PutUvarint(body[at:], uint64(1000+rng.Uint32N(8000)))
		}
	}
}

func TestDensestBodies(t *testing.T) {
	const n = 20000
	dense := func(count []byte, element []byte, tail ...byte) []byte {
		return append(append(count, bytes.Repeat(element, n)...), tail...)
	}
	wide := binary.BigEndian.AppendUint32(nil, n)
	narrow := binary.AppendUvarint(nil, n+1)
	for name, c := range map[string]struct {
		h    protocol.RequestHeader
		body []byte
		ok   bool
	}{
		"topics without a name, Metadata 1": {protocol.RequestHeader{Key: 3, Version: 1}, dense(wide, []byte{0, 0}), true},
		"topics without a name, Metadata 9": {protocol.RequestHeader{Key: 3, Version: 9}, dense(narrow, []byte{1, 0}, 0, 0, 0, 0), true},
		"names, DeleteTopics 5":             {protocol.RequestHeader{Key: 20, Version: 5}, dense(narrow, []byte{1}, 0, 0, 0, 0, 0), true},
		"tagged fields, Metadata 9":         {protocol.RequestHeader{Key: 3, Version: 9}, dense(narrow, []byte{1, 1, 99, 0}, 0, 0, 0, 0), false},
		"Produce 9":                         {protocol.RequestHeader{Key: 0, Version: 9}, append([]byte{0, 0, 1, 0, 0, 0, 0}, dense(narrow, []byte{1, 1, 0}, 0)...), true},
	} {
		cost, err := protocol.CheckBody(c.h, c.body)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err != nil {
			continue
		}
		if got := allocated(func() { _ = decode(c.h, c.body) }); got > cost*padding {
			t.Errorf("%s: took %d, checked as %d", name, got, cost)
		} else {
			t.Logf("%s: %.1f bytes of memory for each byte", name, float64(got)/float64(len(c.body)))
		}
	}
}

// kmsg takes a count of tagged fields at its word: four billion rounds.
func TestTagCountBeyondTheBodyIsRefused(t *testing.T) {
	h := protocol.RequestHeader{Key: protocol.KeyMetadata, Version: 9}
	body := []byte{1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}
	if _, err := protocol.CheckBody(h, body); !errors.Is(err, protocol.ErrMalformed) {
		t.Fatalf("got %v", err)
	}
}

func TestCheckBodyRefusesWhatIsNotServed(t *testing.T) {
	for _, h := range []protocol.RequestHeader{{Key: 999}, {Key: 0, Version: 2}, {Key: 3, Version: 14}} {
		if _, err := protocol.CheckBody(h, nil); !errors.Is(err, protocol.ErrNotServed) {
			t.Errorf("%+v: %v", h, err)
		}
	}
}

func FuzzFrame(f *testing.F) {
	rng := newRand()
	everyVersion(func(api protocol.API, version int16) {
		f.Add(kmsg.NewRequestFormatter().AppendRequest(nil, randomRequest(rng, api.Key, version), 1)[4:])
	})
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, body, err := protocol.ParseHeader(frame)
		if err != nil {
			return
		}
		cost, err := protocol.CheckBody(h, body)
		if err != nil {
			return
		}
		if cost > protocol.MaxDecodeFactor*len(body)+2*protocol.DecodeOverhead {
			t.Fatalf("cost %d of %d bytes", cost, len(body))
		}
		if err := decode(h, body); err != nil && h.Key != protocol.KeyFetch {
			t.Fatalf("%+v passes the check and fails to decode: %v", h, err)
		}
	})
}
