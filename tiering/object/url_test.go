package object_test

import (
	"strings"
	"testing"

	"github.com/stratabroker/strata/tiering/object"
)

func TestParseURL(t *testing.T) {
	for in, want := range map[string]object.URL{
		"dir:///abs/path":     {Scheme: "dir", Path: "/abs/path"},
		"dir:///a%20b/../c/":  {Scheme: "dir", Path: "/c"},
		"mem://x":             {Scheme: "mem", Name: "x"},
		"s3://bucket":         {Scheme: "s3", Bucket: "bucket"},
		"s3://bucket/":        {Scheme: "s3", Bucket: "bucket"},
		"s3://buc.ket-1/a/b/": {Scheme: "s3", Bucket: "buc.ket-1", Prefix: "a/b"},
		"s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=us-east-1&path.style=true": {
			Scheme: "s3", Bucket: "bucket", Prefix: "prefix", Endpoint: "http://127.0.0.1:9000", Region: "us-east-1", PathStyle: true,
		},
		"s3://bucket?endpoint=https://s3.example.org/":                  {Scheme: "s3", Bucket: "bucket", Endpoint: "https://s3.example.org", PathStyle: true},
		"s3://bucket?endpoint=https://s3.example.org&path.style=false":  {Scheme: "s3", Bucket: "bucket", Endpoint: "https://s3.example.org"},
		"s3://bucket?path.style=true&region=eu-central-1":               {Scheme: "s3", Bucket: "bucket", Region: "eu-central-1", PathStyle: true},
		"s3://bucket/p?endpoint=http%3A%2F%2F127.0.0.1%3A9000&region=x": {Scheme: "s3", Bucket: "bucket", Prefix: "p", Endpoint: "http://127.0.0.1:9000", Region: "x", PathStyle: true},
		"minio://bucket/prefix?endpoint=127.0.0.1:9000&secure=false": {
			Scheme: "minio", Bucket: "bucket", Prefix: "prefix", Endpoint: "127.0.0.1:9000", Insecure: true,
		},
		"minio://bucket?endpoint=minio.example.org&secure=true&region=eu-1": {Scheme: "minio", Bucket: "bucket", Endpoint: "minio.example.org", Region: "eu-1"},
		"minio://bucket?endpoint=[::1]:9000":                                {Scheme: "minio", Bucket: "bucket", Endpoint: "[::1]:9000"},
	} {
		got, err := object.ParseURL(in)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", in, got, err, want)
			continue
		}
		if again, err := object.ParseURL(got.String()); err != nil || again != got {
			t.Errorf("%s: printed as %s, which is %+v, %v", in, got, again, err)
		}
	}
}

func TestParseURLSaysWhatIsWrong(t *testing.T) {
	for in, want := range map[string]string{
		"":                                    "unknown scheme",
		"/just/a/path":                        "unknown scheme",
		"file:///x":                           `unknown scheme "file", allowed are dir:///abs/path, s3://bucket/prefix and minio://bucket/prefix?endpoint=host:port`,
		"dir://relative/path":                 `"dir://relative/path": the path must be absolute`,
		"dir:relative":                        "allowed are",
		"dir:///":                             "root of the file system",
		"dir:///x?sync=no":                    `unknown parameter "sync", none is allowed`,
		"mem://":                              "allowed is mem://name",
		"s3:///prefix":                        "bucket name",
		"s3://UPPER":                          "3 to 63 characters",
		"s3://bucket/a b":                     "prefix",
		"s3://bucket/a//b":                    "prefix",
		"s3://bucket?path.style=yes":          `parameter "path.style" is "yes", allowed are true and false`,
		"s3://bucket?path.style=":             `parameter "path.style" is ""`,
		"s3://bucket?endpoint=127.0.0.1:9000": `parameter "endpoint", allowed is http://host:port`,
		"s3://bucket?endpoint=http://h/path":  `parameter "endpoint"`,
		"s3://bucket?regoin=x":                `unknown parameter "regoin", allowed are endpoint, region, path.style`,
		"s3://bucket?region=a&region=b":       "more than once",
		"minio://bucket/prefix":               `parameter "endpoint" is missing: host:port`,
		"minio://bucket?endpoint=http://127.0.0.1:9000":         "without a scheme: secure=false",
		"minio://bucket?endpoint=127.0.0.1:9000/path":           `parameter "endpoint", allowed is host:port`,
		"minio://bucket?endpoint=:9000":                         `parameter "endpoint", allowed is host:port`,
		"minio://bucket?endpoint=h:1&secure=no":                 `parameter "secure" is "no", allowed are true and false`,
		"minio://bucket?endpoint=h:1&path.style=true":           `unknown parameter "path.style", allowed are endpoint, secure, region`,
		"minio://UPPER?endpoint=h:1":                            "3 to 63 characters",
		"s3://bucket?a=%zz":                                     "not well-formed",
		"s3://bucket/" + strings.Repeat("p/", 150) + "p":        "prefix of",
		"s3://bucket?endpoint=http://10.0.0.1&path.style=false": "which needs true",
	} {
		_, err := object.ParseURL(in)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "bucket URL ") {
			t.Errorf("%s: error %v, want one with %q", in, err, want)
		}
	}
}

func TestParseURLNeverPrintsSecrets(t *testing.T) {
	for _, in := range []string{
		"s3://AKIA:SECRET@bucket/prefix", "s3://bucket?secret=SECRET", "s3://bucket?endpoint=http://user:SECRET@host:1&regoin=x",
		"s3://bucket?endpoint=http://user:SECRET@host:1", "s3://AKIA:SECRET@bucket:port", "s3://bucket#SECRET", "s3://user:SECRET%zz@bucket",
		"minio://AKIA:SECRET@bucket?endpoint=h:1", "minio://bucket?endpoint=user:SECRET@h:1", "minio://bucket?endpoint=h:1&secret=SECRET",
	} {
		_, err := object.ParseURL(in)
		if err == nil {
			t.Errorf("%s: accepted", in)
		} else if strings.Contains(err.Error(), "SECRET") {
			t.Errorf("secret printed: %v", err)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{"dir:///abs/path", "mem://x", "s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=us-east-1&path.style=true", "s3://a:b@c", "minio://bucket/prefix?endpoint=127.0.0.1:9000&secure=false"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		u, err := object.ParseURL(in)
		if err != nil {
			return
		}
		if again, err := object.ParseURL(u.String()); err != nil || again != u {
			t.Errorf("%q: printed as %q, which is %+v, %v", in, u, again, err)
		}
	})
}
