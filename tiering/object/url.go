package object

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Scheme names a driver in a bucket URL.
type Scheme string

// The schemes.
const (
	SchemeDir Scheme = "dir" // dir:///abs/path
	SchemeMem Scheme = "mem" // mem://name, for tests
	SchemeS3  Scheme = "s3"  // s3://bucket/prefix?endpoint=...&region=...&path.style=...

	SchemeMinIO Scheme = "minio" // minio://bucket/prefix?endpoint=host:port&secure=...&region=...
)

// maxPrefixBytes keeps prefix, "/" and the longest key within S3's 1,024 bytes.
const maxPrefixBytes = 1024 - 1 - MaxKeyBytes

// Parameters of s3 and minio URLs.
const (
	paramEndpoint  = "endpoint"
	paramRegion    = "region"
	paramPathStyle = "path.style" // s3
	paramSecure    = "secure"     // minio
)

// allowedForms is what errors offer.
const allowedForms = "dir:///abs/path, s3://bucket/prefix and minio://bucket/prefix?endpoint=host:port"

// URL is a parsed bucket URL. It never holds credentials.
type URL struct {
	Scheme Scheme
	Path   string // dir: absolute, clean
	Name   string // mem
	Bucket string // s3, minio
	Prefix string // s3, minio: "" or a key, without "/" at its ends

	Endpoint  string // s3: scheme://host[:port]; "" is AWS. minio: host[:port]
	Region    string // s3: "" as the SDK finds it. minio: "" is us-east-1
	PathStyle bool   // s3: http://host/bucket/key instead of http://bucket.host/key
	Insecure  bool   // minio: plain HTTP (secure=false)
}

var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// ParseURL reads a bucket URL:
//
//	dir:///abs/path
//	s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=us-east-1&path.style=true
//	minio://bucket/prefix?endpoint=127.0.0.1:9000&secure=false
//	mem://name
//
// path.style is true by default where an endpoint is given, secure is true by default. An error names the
// URL, the part that is wrong and what is allowed; a password or an unknown
// parameter's value is never printed.
func ParseURL(s string) (URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		// The text of url.Error repeats the whole URL.
		scheme, _, found := strings.Cut(s, "://")
		if !found {
			scheme = "?"
		}
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err
		}
		if strings.Contains(s, "@") {
			err = errors.New("credentials do not belong into it, and it is not well-formed")
		}
		return URL{}, fmt.Errorf("bucket URL %q: %w", scheme+"://...", err)
	}
	parsed, err := parse(u)
	if err != nil {
		return URL{}, fmt.Errorf("bucket URL %q: %w", printable(u), err)
	}
	return parsed, nil
}

func parse(u *url.URL) (URL, error) {
	if u.User != nil {
		return URL{}, errors.New("credentials do not belong into it: they are taken from the environment or the AWS configuration files")
	}
	if u.Fragment != "" || u.Opaque != "" {
		return URL{}, errors.New("allowed are " + allowedForms)
	}
	params, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return URL{}, errors.New("its parameters are not well-formed")
	}
	switch Scheme(u.Scheme) {
	case SchemeDir:
		return parseDir(u, params)
	case SchemeMem:
		if u.Host == "" || u.Path != "" && u.Path != "/" {
			return URL{}, errors.New("allowed is mem://name")
		}
		return URL{Scheme: SchemeMem, Name: u.Host}, checkParams(params)
	case SchemeS3:
		return parseS3(u, params)
	case SchemeMinIO:
		return parseMinIO(u, params)
	}
	return URL{}, fmt.Errorf("unknown scheme %q, allowed are %s", u.Scheme, allowedForms)
}

func checkParams(params url.Values, known ...string) error {
	names := make([]string, 0, len(params))
	for name := range params {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if len(known) == 0 {
			return fmt.Errorf("unknown parameter %q, none is allowed", name)
		}
		if !slices.Contains(known, name) {
			return fmt.Errorf("unknown parameter %q, allowed are %s", name, strings.Join(known, ", "))
		}
		if len(params[name]) > 1 {
			return fmt.Errorf("parameter %q is given more than once", name)
		}
	}
	return nil
}

func parseDir(u *url.URL, params url.Values) (URL, error) {
	if u.Host != "" || !strings.HasPrefix(u.Path, "/") {
		return URL{}, errors.New("the path must be absolute: dir:///abs/path")
	}
	if path.Clean(u.Path) == "/" {
		return URL{}, errors.New("the root of the file system cannot be a bucket: dir:///abs/path")
	}
	return URL{Scheme: SchemeDir, Path: path.Clean(u.Path)}, checkParams(params)
}

// parseBucket reads bucket and prefix.
func parseBucket(u *url.URL) (URL, error) {
	if !bucketName.MatchString(u.Host) {
		return URL{}, fmt.Errorf("bucket name %q, allowed are 3 to 63 characters of a-z, 0-9, '.' and '-'", u.Host)
	}
	parsed := URL{Scheme: Scheme(u.Scheme), Bucket: u.Host, Prefix: strings.Trim(u.Path, "/")}
	if parsed.Prefix != "" {
		if err := CheckKey(parsed.Prefix); err != nil {
			return URL{}, fmt.Errorf("prefix: %w", err)
		}
		if len(parsed.Prefix) > maxPrefixBytes {
			return URL{}, fmt.Errorf("prefix of %d bytes, allowed are %d", len(parsed.Prefix), maxPrefixBytes)
		}
	}
	return parsed, nil
}

func parseMinIO(u *url.URL, params url.Values) (URL, error) {
	if err := checkParams(params, paramEndpoint, paramSecure, paramRegion); err != nil {
		return URL{}, err
	}
	parsed, err := parseBucket(u)
	if err != nil {
		return URL{}, err
	}
	parsed.Region, parsed.Endpoint = params.Get(paramRegion), params.Get(paramEndpoint)
	if err := checkHostPort(parsed.Endpoint); err != nil {
		return URL{}, err
	}
	switch secure := params.Get(paramSecure); {
	case !params.Has(paramSecure), secure == "true":
	case secure == "false":
		parsed.Insecure = true
	default:
		return URL{}, fmt.Errorf("parameter %q is %q, allowed are true and false", paramSecure, secure)
	}
	return parsed, nil
}

// checkHostPort does not print the endpoint: it may hold credentials.
func checkHostPort(endpoint string) error {
	if endpoint == "" {
		return fmt.Errorf("parameter %q is missing: host:port of the MinIO server", paramEndpoint)
	}
	if strings.Contains(endpoint, "://") {
		return fmt.Errorf("parameter %q, allowed is host:port without a scheme: %s=false asks for plain HTTP", paramEndpoint, paramSecure)
	}
	e, err := url.Parse("http://" + endpoint)
	if err != nil || e.Host != endpoint || e.Hostname() == "" || e.User != nil {
		return fmt.Errorf("parameter %q, allowed is host:port", paramEndpoint)
	}
	return nil
}

func parseS3(u *url.URL, params url.Values) (URL, error) {
	if err := checkParams(params, paramEndpoint, paramRegion, paramPathStyle); err != nil {
		return URL{}, err
	}
	parsed, err := parseBucket(u)
	if err != nil {
		return URL{}, err
	}
	parsed.Region = params.Get(paramRegion)
	if endpoint := params.Get(paramEndpoint); endpoint != "" {
		if err := checkEndpoint(endpoint); err != nil {
			return URL{}, err
		}
		parsed.Endpoint = strings.TrimSuffix(endpoint, "/")
		parsed.PathStyle = true
	}
	switch style := params.Get(paramPathStyle); {
	case !params.Has(paramPathStyle):
	case style == "true":
		parsed.PathStyle = true
	case style == "false":
		parsed.PathStyle = false
	default:
		return URL{}, fmt.Errorf("parameter %q is %q, allowed are true and false", paramPathStyle, style)
	}
	if !parsed.PathStyle && parsed.Endpoint != "" {
		if e, _ := url.Parse(parsed.Endpoint); net.ParseIP(e.Hostname()) != nil {
			return URL{}, fmt.Errorf("parameter %q is false, but the endpoint is an IP address, which needs true", paramPathStyle)
		}
	}
	return parsed, nil
}

// checkEndpoint does not print the endpoint: it may hold credentials.
func checkEndpoint(endpoint string) error {
	e, err := url.Parse(endpoint)
	if err != nil || e.Scheme != "http" && e.Scheme != "https" || e.Host == "" || e.User != nil ||
		strings.Trim(e.Path, "/") != "" || e.RawQuery != "" || e.Fragment != "" {
		return fmt.Errorf("parameter %q, allowed is http://host:port or https://host:port", paramEndpoint)
	}
	return nil
}

// printable is the URL without what may be secret: user and password, and all
// parameters but those known and well-formed.
func printable(u *url.URL) string {
	shown := *u
	shown.User, shown.RawQuery, shown.Fragment, shown.RawFragment = nil, "", "", ""
	var params []string
	for name, values := range u.Query() {
		value := "..."
		known := name == paramRegion || name == paramPathStyle || name == paramSecure
		if known || name == paramEndpoint && (checkEndpoint(values[0]) == nil || checkHostPort(values[0]) == nil) {
			value = values[0]
		}
		params = append(params, name+"="+value)
	}
	slices.Sort(params)
	shown.RawQuery = strings.Join(params, "&")
	return shown.String()
}

// String is the URL in the form that ParseURL reads.
func (u URL) String() string {
	switch u.Scheme {
	case SchemeDir:
		return (&url.URL{Scheme: string(SchemeDir), Path: u.Path}).String()
	case SchemeMem:
		return (&url.URL{Scheme: string(SchemeMem), Host: u.Name}).String()
	case SchemeS3, SchemeMinIO:
		var params []string
		if u.Endpoint != "" {
			params = append(params, paramEndpoint+"="+u.Endpoint)
		}
		if u.Region != "" {
			params = append(params, paramRegion+"="+url.QueryEscape(u.Region))
		}
		if u.Insecure {
			params = append(params, paramSecure+"=false")
		}
		if u.Scheme == SchemeS3 && u.PathStyle != (u.Endpoint != "") {
			params = append(params, fmt.Sprintf("%s=%t", paramPathStyle, u.PathStyle))
		}
		shown := url.URL{Scheme: string(u.Scheme), Host: u.Bucket, RawQuery: strings.Join(params, "&")}
		if u.Prefix != "" {
			shown.Path = "/" + u.Prefix
		}
		return shown.String()
	}
	return "?"
}
