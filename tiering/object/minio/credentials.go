package minio

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/stratabroker/strata/tiering/object"
)

// where is the places that credentials are looked for in, in their order.
const where = "set MINIO_ACCESS_KEY and MINIO_SECRET_KEY, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, " +
	"or MINIO_ALIAS to one of ~/.mc/config.json, or AWS_PROFILE to one of ~/.aws, or give this machine a role"

// machineTimeout bounds the question to a machine's metadata service, which is not there on most.
const machineTimeout = 2 * time.Second

// place is one of them.
type place struct {
	provider credentials.Provider
	set      []string      // who sets one of these variables means this place
	limit    time.Duration // of one question; 0: the request's
}

// finder asks place after place. A place that somebody means ends the search also when
// it fails; minio-go's own chain drops all errors and goes on unsigned, which ends as "access denied".
type finder struct {
	places []place
	found  credentials.Provider // that gave the last ones
}

func newFinder() *finder {
	return &finder{places: []place{
		{provider: &credentials.EnvMinio{}, set: []string{"MINIO_ACCESS_KEY", "MINIO_ROOT_USER"}},
		{provider: &credentials.EnvAWS{}, set: []string{"AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY"}},
		{provider: &credentials.FileMinioClient{}, set: []string{"MINIO_ALIAS", "MINIO_SHARED_CREDENTIALS_FILE"}},
		{provider: &credentials.FileAWSCredentials{}, set: []string{"AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE"}},
		{
			provider: &credentials.IAM{}, limit: machineTimeout,
			set: []string{"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"},
		},
	}}
}

var errNoKeys = errors.New("it has no key with a secret")

// RetrieveWithCredContext implements credentials.Provider.
func (f *finder) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	var last, broken error
	for _, p := range f.places {
		v, err := p.ask(cc)
		if err == nil && (v.AccessKeyID == "" || v.SecretAccessKey == "") {
			err = errNoKeys
		}
		if err == nil {
			f.found = p.provider
			return v, nil
		}
		if ended := contextOf(cc).Err(); ended != nil {
			return credentials.Value{}, &object.CredentialsError{Cause: fmt.Errorf("no answer from where they come in time: %w", ended)}
		}
		for _, name := range p.set {
			if os.Getenv(name) != "" {
				return credentials.Value{}, &object.CredentialsError{Cause: fmt.Errorf("%s is set: %w", name, err)}
			}
		}
		if p.limit == 0 && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNoKeys) && !noDefault(err) {
			broken = errors.Join(broken, err) // a file that is there, and of no use
		}
		last = err
	}
	if broken != nil {
		return credentials.Value{}, &object.CredentialsError{Cause: broken}
	}
	return credentials.Value{}, &object.CredentialsError{None: true, Places: where, Cause: last}
}

// noDefault tells of a file that has other profiles only; its reader has no error of a type for it.
func noDefault(err error) bool {
	return strings.Contains(err.Error(), `section "default" does not exist`)
}

func (p place) ask(cc *credentials.CredContext) (credentials.Value, error) {
	if p.limit == 0 {
		return p.provider.RetrieveWithCredContext(cc)
	}
	bounded := credentials.CredContext{}
	if cc != nil {
		bounded = *cc
	}
	ctx, cancel := context.WithTimeout(contextOf(cc), p.limit)
	defer cancel()
	bounded.Context = ctx
	return p.provider.RetrieveWithCredContext(&bounded)
}

func contextOf(cc *credentials.CredContext) context.Context {
	if cc == nil || cc.Context == nil {
		return context.Background()
	}
	return cc.Context
}

// Retrieve implements credentials.Provider.
func (f *finder) Retrieve() (credentials.Value, error) { return f.RetrieveWithCredContext(nil) }

// IsExpired implements credentials.Provider.
func (f *finder) IsExpired() bool { return f.found == nil || f.found.IsExpired() }
