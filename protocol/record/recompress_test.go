package record_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/stratabroker/strata/protocol/record"
)

func TestRecompressionKeepsAllButTheCodec(t *testing.T) {
	plain := plainBlock(200, 700) // several blocks of each codec
	levels := map[record.Codec][]int{
		record.None: {0}, record.Gzip: {-1, 1, 9}, record.Snappy: {0}, record.LZ4: {1, 3, 9, 17}, record.Zstd: {-5, 1, 3, 22},
	}
	for _, from := range codecs {
		b := compressed(from, 200, pack(t, from, plain))
		b.SetBaseOffset(77)
		b.SetLeaderEpoch(5)
		b.SetLogAppendTime(4711)
		want := collect(t, b, len(plain))
		for _, to := range codecs {
			for _, level := range levels[to] {
				out, err := b.Recompress(to, level, len(plain))
				if err != nil {
					t.Fatalf("%s to %s at %d: %v", from, to, level, err)
				}
				if err := out.Check(); err != nil || out.Codec() != to {
					t.Fatalf("%s to %s at %d: %v, codec %s", from, to, level, err, out.Codec())
				}
				if whole, rest, err := record.Split(out); err != nil || len(whole) != len(out) || len(rest) != 0 {
					t.Fatalf("%s to %s at %d: %v", from, to, level, err)
				}
				if got := collect(t, out, len(plain)); !reflect.DeepEqual(got, want) {
					t.Errorf("%s to %s at %d: records differ", from, to, level)
				}
				if out.LeaderEpoch() != 5 || out.ProducerID() != b.ProducerID() || out.ProducerEpoch() != b.ProducerEpoch() ||
					out.LastOffsetDelta() != b.LastOffsetDelta() || !out.LogAppendTime() {
					t.Errorf("%s to %s at %d: header differs", from, to, level)
				}
			}
		}
		if err := b.Check(); err != nil {
			t.Errorf("%s: the batch itself was changed: %v", from, err)
		}
	}
}

func TestRecompressionRefusals(t *testing.T) {
	b := compressed(record.Gzip, 1, pack(t, record.Gzip, plainBlock(1, 1000)))
	if _, err := b.Recompress(record.None, 0, 100); !errors.Is(err, record.ErrBudget) {
		t.Errorf("beyond the budget: %v", err)
	}
	if _, err := b.Recompress(record.Codec(6), 0, 1<<20); !errors.Is(err, record.ErrInvalid) {
		t.Errorf("no such codec: %v", err)
	}
	if _, err := b.Recompress(record.Gzip, 99, 1<<20); err == nil {
		t.Error("no such level passes")
	}
	for _, codec := range codecs[1:] {
		if _, err := compressed(codec, 1, []byte("nonsense")).Recompress(record.None, 0, 1<<20); !errors.Is(err, record.ErrInvalid) {
			t.Errorf("%s of nonsense: %v", codec, err)
		}
	}
	if record.Zstd.String() != "zstd" || record.Codec(6).String() != "codec-6" {
		t.Error("names of codecs")
	}
}
