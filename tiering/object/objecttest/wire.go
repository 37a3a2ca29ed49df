package objecttest

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stratabroker/strata/tiering/object"
)

// openWire opens a store on a server that answers as the test wants.
type openWire func(t *testing.T, answer http.HandlerFunc) object.Store

// RunWire tests a driver of S3's protocol against a server that answers what a real one does only under load
// or when it is broken. open makes a store of the bucket "bucket" below the prefix "p" at an endpoint of plain HTTP, http://host:port.
func RunWire(t *testing.T, open func(t *testing.T, endpoint string) object.Store) {
	t.Helper()
	fake := func(t *testing.T, answer http.HandlerFunc) object.Store {
		t.Helper()
		srv := httptest.NewServer(answer)
		t.Cleanup(srv.Close)
		s := open(t, srv.URL)
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	for name, test := range map[string]func(*testing.T, openWire){
		"errors have one meaning and one request":                    errorsHaveOneMeaning,
		"If-Match on a missing object is a precondition that failed": ifMatchOnAMissingObject,
		"a PUT is one request with its checksum":                     putIsOneRequest,
		"a denied PUT is asked again and then refused":               deniedPut,
		"ranged reads are checked":                                   rangedReads,
		"a delete tells which objects are left":                      deleteTellsWhatIsLeft,
		"the probe of a store that ignores conditions fails":         probeOfIgnoredConditions,
		"a silent store is an outage of unknown effect":              silentStore,
	} {
		t.Run(name, func(t *testing.T) { test(t, fake) })
	}
}

// AnswerError answers as S3 does where it fails; the message is "told so".
func AnswerError(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	if code != "" {
		_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>told so</Message></Error>`, code)
	}
}

func errorsHaveOneMeaning(t *testing.T, open openWire) {
	t.Helper()
	kinds := []error{object.ErrNotFound, object.ErrPrecondition, object.ErrRange, object.ErrThrottled, object.ErrNoBucket, object.ErrDenied, object.ErrFull}
	for _, c := range []struct {
		status int
		code   string
		want   error // nil: an outage
	}{
		{404, "NoSuchKey", object.ErrNotFound},
		{404, "NoSuchBucket", object.ErrNoBucket},
		{412, "PreconditionFailed", object.ErrPrecondition},
		{304, "", object.ErrPrecondition},
		{409, "ConditionalRequestConflict", nil},
		{409, "OperationAborted", nil},
		{416, "InvalidRange", object.ErrRange},
		{503, "SlowDown", object.ErrThrottled},
		{503, "SlowDownWrite", object.ErrThrottled},
		{503, "ServiceUnavailable", object.ErrThrottled},
		{503, "", object.ErrThrottled},
		{429, "TooManyRequests", object.ErrThrottled},
		{403, "AccessDenied", object.ErrDenied},
		{403, "SignatureDoesNotMatch", object.ErrDenied},
		{507, "XMinioStorageFull", object.ErrFull},
		{507, "", object.ErrFull},
		{500, "InternalError", nil},
		{301, "PermanentRedirect", nil},
		{400, "BadDigest", nil},
	} {
		t.Run(fmt.Sprint(c.status, c.code), func(t *testing.T) {
			requests := 0
			s := open(t, func(w http.ResponseWriter, r *http.Request) {
				requests++
				_, _ = io.Copy(io.Discard, r.Body)
				AnswerError(w, c.status, c.code)
			})
			_, err := s.PutIf(t.Context(), "OWNER", []byte("x"), "")
			if err == nil {
				t.Fatal("no error")
			}
			for _, kind := range kinds {
				if got, want := errors.Is(err, kind), c.want != nil && errors.Is(c.want, kind); got != want {
					t.Errorf("%v: is it %q? %t", err, kind, got)
				}
			}
			if requests != 1 {
				t.Errorf("%d requests", requests)
			}
			if !strings.Contains(err.Error(), "OWNER in bucket bucket") {
				t.Errorf("%q does not tell key and bucket", err)
			}
		})
	}
}

func ifMatchOnAMissingObject(t *testing.T, open openWire) {
	t.Helper()
	s := open(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-Match") != `"etag"` {
			t.Errorf("If-Match %q", r.Header.Get("If-Match"))
		}
		AnswerError(w, 404, "NoSuchKey")
	})
	if _, err := s.PutIf(t.Context(), "OWNER", nil, `"etag"`); !errors.Is(err, object.ErrPrecondition) || errors.Is(err, object.ErrNotFound) {
		t.Error(err)
	}
}

func putIsOneRequest(t *testing.T, open openWire) {
	t.Helper()
	body := bytes.Repeat([]byte("strata"), 4<<20) // 24 MiB: beyond where clients begin multipart uploads
	requests := 0
	s := open(t, func(w http.ResponseWriter, r *http.Request) {
		requests++
		got, err := io.ReadAll(r.Body)
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes arrived, %v", len(got), err)
		}
		sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
		if got, want := r.Header.Get("X-Amz-Checksum-Crc32c"), base64.StdEncoding.EncodeToString(sum); got != want {
			t.Errorf("CRC32C %q, want %q", got, want)
		}
		if r.Method != http.MethodPut || r.URL.Path != "/bucket/p/a/b.seg" || r.ContentLength != int64(len(body)) || r.Header.Get("X-Amz-Trailer") != "" || r.URL.Query().Has("uploadId") || r.URL.Query().Has("uploads") {
			t.Errorf("%s %s, length %d, %v", r.Method, r.URL, r.ContentLength, r.Header)
		}
	})
	if err := s.Put(t.Context(), "a/b.seg", bytes.NewReader(append(slices.Clone(body), "more"...)), int64(len(body))); err != nil {
		t.Error(err)
	}
	if requests != 1 {
		t.Errorf("%d requests", requests)
	}
}

func deniedPut(t *testing.T, open openWire) {
	t.Helper()
	for _, denials := range []int{1, 4, 1000} {
		requests := 0
		s := open(t, func(w http.ResponseWriter, r *http.Request) {
			requests++
			if body, err := io.ReadAll(r.Body); err != nil || string(body) != "body" {
				t.Errorf("request %d: %q, %v", requests, body, err)
			}
			if requests <= denials {
				AnswerError(w, 403, "AccessDenied")
			}
		})
		err := s.Put(t.Context(), "a", strings.NewReader("body"), 4)
		if denied := denials > 4; errors.Is(err, object.ErrDenied) != denied || (err != nil) != denied || requests != min(denials+1, 5) {
			t.Errorf("%d denials: %v after %d requests", denials, err, requests)
		}
	}
}

func rangedReads(t *testing.T, open openWire) {
	t.Helper()
	for name, c := range map[string]struct {
		contentRange, body string
		length             int
		want               error // nil: any
	}{
		"other place":      {"bytes 0-3/100", "abcd", 4, nil},
		"no content range": {"", "abcd", 4, nil},
		"nonsense":         {"bytes ?", "abcd", 4, nil},
		"shorter object":   {"bytes 10-11/12", "ab", 2, object.ErrRange},
		"shorter answer":   {"bytes 10-12/100", "abc", 3, nil},
		"cut off":          {"bytes 10-13/100", "ab", 4, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") != "bytes=10-13" {
					t.Errorf("Range %q", r.Header.Get("Range"))
				}
				if c.contentRange != "" {
					w.Header().Set("Content-Range", c.contentRange)
				}
				w.Header().Set("Content-Length", fmt.Sprint(c.length))
				w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
				w.WriteHeader(http.StatusPartialContent)
				_, _ = io.WriteString(w, c.body)
			})
			got, err := s.Get(t.Context(), "a", 10, 4)
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func deleteTellsWhatIsLeft(t *testing.T, open openWire) {
	t.Helper()
	var mu sync.Mutex
	var sizes []int
	s := open(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		sizes = append(sizes, strings.Count(string(body), "<Key>p/k"))
		mu.Unlock()
		w.Header().Set("Content-Type", "application/xml")
		if strings.Contains(string(body), "<Key>p/k0000</Key>") {
			_, _ = io.WriteString(w, `<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></DeleteResult>`)
			return
		}
		_, _ = io.WriteString(w, `<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`+
			`<Error><Key>p/k1000</Key><Code>NoSuchKey</Code><Message>gone</Message></Error>`+
			`<Error><Key>p/k1001</Key><Code>SlowDown</Code><Message>later</Message></Error>`+
			`<Error><Key>p/k1002</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>`)
	})
	keys := make([]string, 1500)
	for i := range keys {
		keys[i] = fmt.Sprintf("k%04d", i)
	}
	err := s.Delete(t.Context(), keys)
	if !errors.Is(err, object.ErrThrottled) || !errors.Is(err, object.ErrDenied) || errors.Is(err, object.ErrNotFound) || !strings.Contains(err.Error(), "k1002") {
		t.Errorf("got %v", err)
	}
	if !slices.Equal(sizes, []int{1000, 500}) {
		t.Errorf("requests of %v keys", sizes)
	}
}

func probeOfIgnoredConditions(t *testing.T, open openWire) {
	t.Helper()
	for name, ignored := range map[string]string{"If-None-Match": "If-None-Match", "If-Match": "If-Match", "If-Match on a missing object": "missing"} {
		t.Run(name, func(t *testing.T) {
			store := &careless{ignored: ignored}
			if ok, err := object.ProbeConditional(t.Context(), open(t, store.serve), "probe"); ok || err != nil {
				t.Errorf("%t, %v", ok, err)
			}
			if store.etag != "" {
				t.Error("the probe left its object")
			}
		})
	}
}

// careless holds one object, and ignores one kind of condition.
type careless struct {
	ignored string // If-None-Match, If-Match, or missing: If-Match on an object that is not there

	mu         sync.Mutex
	etag, body string
	writes     int
}

func (c *careless) serve(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	in, _ := io.ReadAll(r.Body)
	switch r.Method {
	case http.MethodPut:
		if status, code := c.refuses(r.Header); status != 0 {
			AnswerError(w, status, code)
			return
		}
		c.writes++
		c.etag, c.body = fmt.Sprintf(`"%d"`, c.writes), string(in)
		w.Header().Set("ETag", c.etag)
	case http.MethodPost:
		c.etag = ""
		_, _ = io.WriteString(w, `<DeleteResult/>`)
	default:
		if c.etag == "" {
			AnswerError(w, 404, "NoSuchKey")
			return
		}
		w.Header().Set("ETag", c.etag)
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		_, _ = io.WriteString(w, c.body)
	}
}

// refuses is the answer to a PUT whose condition does not hold; 0 where it does.
func (c *careless) refuses(h http.Header) (status int, code string) {
	match := h.Get("If-Match")
	switch {
	case h.Get("If-None-Match") != "" && c.etag != "" && c.ignored != "If-None-Match",
		match != "" && c.etag != "" && match != c.etag && c.ignored != "If-Match":
		return 412, "PreconditionFailed"
	case match != "" && c.etag == "" && c.ignored != "missing":
		return 404, "NoSuchKey"
	}
	return 0, ""
}

func silentStore(t *testing.T, open openWire) {
	t.Helper()
	s := open(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	})
	err := s.Put(t.Context(), "a", strings.NewReader("x"), 1)
	if err == nil || errors.Is(err, object.ErrThrottled) {
		t.Errorf("got %v", err)
	}
	if ok, err := object.ProbeConditional(t.Context(), s, "probe"); ok || err == nil {
		t.Errorf("probe: %t, %v", ok, err)
	}
}
