package log_test

import (
	"bytes"
	"testing"

	"github.com/stratabroker/strata/broker/log"
	"github.com/stratabroker/strata/protocol"
)

// parsers pairs each decoder with what writes its result again.
var parsers = map[string]struct {
	good  []string
	bad   []string
	again func(b []byte) ([]byte, error)
}{
	"offsets": {
		[]string{"0\n0\n", "0\n2\na 0 7\nb-c 12 0\n"},
		[]string{"", "0\n", "0\n1\n", "1\n0\n", "0\n0", "0\n1\na 0\n", "0\n1\na 0 -1\n", "0\n1\na -1 1\n", "0\n1\na 0 1 2\n", "0\n2\na 0 1\na 0 2\n", "0\n1\n 0 1\n", "0\n1\na 0 x\n"},
		func(b []byte) ([]byte, error) { v, err := log.ParseOffsets(b); return log.EncodeOffsets(v), err },
	},
	"epochs": {
		[]string{"0\n0\n", "0\n2\n0 0\n5 100\n"},
		[]string{"", "0\n1\n1\n", "0\n2\n1 1\n1 2\n", "0\n2\n1 1\n2 1\n", "0\n1\n-1 0\n", "0\n1\n1 -1\n", "0\n1\n99999999999 0\n"},
		func(b []byte) ([]byte, error) { v, err := log.ParseEpochs(b); return log.EncodeEpochs(v), err },
	},
	"metadata": {
		[]string{"version: 0\ntopic_id: AQIDAAAAAAAAAAAAAAAAAA"},
		[]string{"", "version: 1\ntopic_id: AQIDAAAAAAAAAAAAAAAAAA", "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA", "version: 0\ntopic_id: AQ", "version: 0"},
		func(b []byte) ([]byte, error) { v, err := log.ParseMetadata(b); return log.EncodeMetadata(v), err },
	},
	"clean": {
		[]string{`{"version":0,"brokerEpoch":12}`, `{"version":0,"brokerEpoch":-1}`},
		[]string{"", "{", `{"version":1,"brokerEpoch":12}`, `{"version":0,"brokerEpoch":-2}`},
		func(b []byte) ([]byte, error) { v, err := log.ParseClean(b); return log.EncodeClean(v), err },
	},
	"boots": {
		[]string{string(log.EncodeBoots(nil)), string(log.EncodeBoots([]string{"a", "b"}))},
		[]string{"", "strata-boot 1\n", "strata-boot 1\na\ncrc32c 00000000\n"},
		func(b []byte) ([]byte, error) { v, err := log.ParseBoots(b); return log.EncodeBoots(v), err },
	},
}

func TestCheckpointFiles(t *testing.T) {
	for name, p := range parsers {
		for _, s := range p.good {
			if got, err := p.again([]byte(s)); err != nil || string(got) != s {
				t.Errorf("%s: %q became %q, %v", name, s, got, err)
			}
		}
		for _, s := range p.bad {
			if _, err := p.again([]byte(s)); err == nil {
				t.Errorf("%s: %q was taken", name, s)
			}
		}
	}
}

func FuzzCheckpointFiles(f *testing.F) {
	for _, p := range parsers {
		for _, s := range append(p.good, p.bad...) {
			f.Add([]byte(s))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, p := range parsers {
			first, err := p.again(b)
			if err != nil {
				continue
			}
			second, err := p.again(first)
			if err != nil || !bytes.Equal(first, second) {
				t.Fatalf("%s: %q became %q, then %q, %v", name, b, first, second, err)
			}
		}
	})
}

func TestFileNames(t *testing.T) {
	for name, want := range map[string]protocol.Offset{
		"00000000000000000000.log": 0, "00000000000000000042.snapshot": 42, "09223372036854775807.index": 1<<63 - 1,
		"09223372036854775808.log": -1, "0000000000000000004x.log": -1, "42.log": -1, "000000000000000000420.log": -1, "00000000000000000042": -1,
	} {
		got, _, ok := log.ParseFileName(name)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%s: %d, %t", name, got, ok)
		}
	}
	for name, want := range map[string]string{
		"a-0": "a", "a-b-12": "a-b", "a": "", "-0": "", "a-": "", "a-x": "", "a-01": "", "a-0.deadbeef-delete": "", "a-4294967296": "",
	} {
		if topic, _, ok := log.ParseDirName(name); ok != (want != "") || topic != want {
			t.Errorf("%s: %q, %t", name, topic, ok)
		}
	}
}
