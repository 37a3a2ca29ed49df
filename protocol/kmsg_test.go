package protocol_test

import (
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/stratabroker/strata/protocol"
)

// randomRequest fills a kmsg request of one version with random values.
func randomRequest(rng *rand.Rand, key, version int16) kmsg.Request {
	req := kmsg.RequestForKey(key)
	randomise(rng, reflect.ValueOf(req).Elem())
	req.SetVersion(version)
	return req
}

func randomise(rng *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[kmsg.Tags]() {
			if rng.IntN(4) == 0 {
				tags := v.Addr().Interface().(*kmsg.Tags)
				for range 1 + rng.IntN(3) {
					// With something in them: many empty ones are refused, for what kmsg makes of them in memory.
					tags.Set(100+rng.Uint32N(1000), append(make([]byte, 16), randomBytes(rng, 6)...))
				}
			}
			return
		}
		for i := range v.NumField() {
			randomise(rng, v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		randomise(rng, v.Elem())
		if rng.IntN(3) == 0 {
			v.SetZero()
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(randomBytes(rng, 40))
			return
		}
		n := rng.IntN(4)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			randomise(rng, v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			randomise(rng, v.Index(i))
		}
	case reflect.String:
		v.SetString(string(randomBytes(rng, 20)))
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(rng.Uint64() >> (64 - v.Type().Bits()))
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(rng.Uint64()) >> (64 - v.Type().Bits()))
	default:
		panic(v.Kind())
	}
}

func randomBytes(rng *rand.Rand, most int) []byte {
	out := make([]byte, rng.IntN(most))
	for i := range out {
		out[i] = byte(rng.IntN(256))
	}
	return out
}

// everyVersion calls fn for each served API and version.
func everyVersion(fn func(api protocol.API, version int16)) {
	for api := range protocol.APIs() {
		for v := api.Min; v <= api.Max; v++ {
			fn(api, v)
		}
	}
}

func newRand() *rand.Rand { return rand.New(rand.NewPCG(4, 2)) }

// kafkaNames are Kafka's own where kmsg has others.
var kafkaNames = map[string]string{"AlterPartitionAssignments": "AlterPartitionReassignments"}

func TestTableAgreesWithKmsg(t *testing.T) {
	last := int16(-1)
	for api := range protocol.APIs() {
		if api.Key <= last {
			t.Errorf("%s: key %d after %d", api.Name, api.Key, last)
		}
		last = api.Key
		req := kmsg.RequestForKey(api.Key)
		if got := kmsg.NameForKey(api.Key); !strings.EqualFold(got, api.Name) && api.Name != kafkaNames[got] {
			t.Errorf("key %d is %s, kmsg says %s", api.Key, api.Name, got)
		}
		if api.Max != req.MaxVersion() {
			t.Errorf("%s: newest version %d, kmsg has %d", api.Name, api.Max, req.MaxVersion())
		}
		for v := int16(0); v <= api.Max; v++ {
			req.SetVersion(v)
			if req.IsFlexible() != api.IsFlexible(v) {
				t.Errorf("%s version %d: flexible is %t, kmsg says %t", api.Name, v, api.IsFlexible(v), req.IsFlexible())
			}
		}
		if found, ok := protocol.LookupAPI(api.Key); !ok || found != api {
			t.Errorf("LookupAPI(%d) = %+v, %t", api.Key, found, ok)
		}
	}
	produce, _ := protocol.LookupAPI(protocol.KeyProduce)
	if produce.Advertised != 0 || produce.Serves(2) || !produce.Serves(3) {
		t.Error("Produce is advertised from 0 and served from 3 (KAFKA-18659)")
	}
}

func kmsgTable() (all []protocol.API) {
	for api := range protocol.APIs() {
		all = append(all, api)
	}
	return all
}

func TestHeaderOfEveryVersion(t *testing.T) {
	rng := newRand()
	everyVersion(func(api protocol.API, version int16) {
		for _, id := range []*string{nil, new(string), kmsg.StringPtr("a client")} {
			req := randomRequest(rng, api.Key, version)
			var opts []kmsg.RequestFormatterOpt
			want := ""
			if id != nil {
				opts, want = append(opts, kmsg.FormatterClientID(*id)), *id
			}
			frame := kmsg.NewRequestFormatter(opts...).AppendRequest(nil, req, 77)[4:]
			h, body, err := protocol.ParseHeader(frame)
			if err != nil {
				t.Fatalf("%s version %d: %v", api.Name, version, err)
			}
			if h != (protocol.RequestHeader{Key: api.Key, Version: version, CorrelationID: 77, ClientID: want}) {
				t.Errorf("%s version %d: header %+v", api.Name, version, h)
			}
			if string(body) != string(req.AppendTo(nil)) {
				t.Errorf("%s version %d: body differs", api.Name, version)
			}
		}
	})
}

func TestHeaderRefusals(t *testing.T) {
	head := func(key, version uint16, rest ...byte) []byte {
		b := binary.BigEndian.AppendUint16(nil, key)
		b = binary.BigEndian.AppendUint16(b, version)
		return append(append(b, 0, 0, 0, 9), rest...)
	}
	for name, c := range map[string]struct {
		frame []byte
		want  error
	}{
		"empty":                   {nil, protocol.ErrMalformed},
		"cut short":               {[]byte{0, 3, 0, 1}, protocol.ErrMalformed},
		"unknown key":             {head(999, 0, 0xff, 0xff), protocol.ErrNotServed},
		"negative key":            {head(0xffff, 0, 0xff, 0xff), protocol.ErrNotServed},
		"old Produce":             {head(0, 2, 0xff, 0xff), protocol.ErrNotServed},
		"newer ApiVersions":       {head(18, 6, 0xff, 0xff, 0), protocol.ErrNotServed},
		"negative version":        {head(18, 0xffff, 0xff, 0xff), protocol.ErrNotServed},
		"client id beyond frame":  {head(3, 1, 0x7f, 0xff, 'a'), protocol.ErrMalformed},
		"client id below null":    {head(3, 1, 0xff, 0xfe), protocol.ErrMalformed},
		"no tagged fields":        {head(3, 9, 0xff, 0xff), protocol.ErrMalformed},
		"four billion tags":       {head(3, 9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f), protocol.ErrMalformed},
		"tag larger than frame":   {head(3, 9, 0xff, 0xff, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f), protocol.ErrMalformed},
		"tag count of six bytes":  {head(3, 9, 0xff, 0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0), protocol.ErrMalformed},
		"version of another kind": {head(3, 14, 0xff, 0xff, 0), protocol.ErrNotServed},
	} {
		h, _, err := protocol.ParseHeader(c.frame)
		if !errorsIs(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if errorsIs(c.want, protocol.ErrNotServed) && h.CorrelationID != 9 {
			t.Errorf("%s: correlation id %d is needed for the answer", name, h.CorrelationID)
		}
	}
}

func TestResponseHeader(t *testing.T) {
	for _, c := range []struct {
		key, version int16
		tagged       bool
	}{
		{protocol.KeyMetadata, 8, false},
		{protocol.KeyMetadata, 9, true},
		{protocol.KeyAPIVersions, 0, false},
		{protocol.KeyAPIVersions, 5, false}, // KIP-511
		{protocol.KeyDescribeCluster, 0, true},
	} {
		got := protocol.AppendResponseHeader(nil, protocol.RequestHeader{Key: c.key, Version: c.version, CorrelationID: 0x01020304}, 16)
		want := []byte{0, 0, 0, 20, 1, 2, 3, 4}
		if c.tagged {
			want = []byte{0, 0, 0, 21, 1, 2, 3, 4, 0}
		}
		if string(got) != string(want) {
			t.Errorf("key %d version %d: % x, want % x", c.key, c.version, got, want)
		}
	}
}

func TestUnsupportedApiVersionsIsVersionZero(t *testing.T) {
	resp := kmsg.NewPtrApiVersionsResponse()
	if err := resp.ReadFrom(protocol.AppendUnsupportedVersion(nil)); err != nil {
		t.Fatal(err)
	}
	if resp.ErrorCode != 35 || len(resp.ApiKeys) != len(kmsgTable()) {
		t.Fatalf("error %d with %d keys", resp.ErrorCode, len(resp.ApiKeys))
	}
	for _, k := range resp.ApiKeys {
		api, ok := protocol.LookupAPI(k.ApiKey)
		if !ok || k.MinVersion != api.Advertised || k.MaxVersion != api.Max {
			t.Errorf("%+v is not %+v", k, api)
		}
	}
}

func TestClientSoftware(t *testing.T) {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "a-client", "1.2"
	for v := int16(0); v <= 5; v++ {
		req.SetVersion(v)
		name, version := protocol.ClientSoftware(v, req.AppendTo(nil))
		if v < 3 && name+version != "" || v >= 3 && (name != "a-client" || version != "1.2") {
			t.Errorf("version %d: %q %q", v, name, version)
		}
	}
	if name, _ := protocol.ClientSoftware(3, []byte{9, 'a'}); name != "" {
		t.Errorf("malformed body names %q", name)
	}
}
