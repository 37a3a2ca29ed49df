package main_test

import (
	"crypto/x509"
	"os"
	"os/exec"
	"testing"
)

// TestCertificatesOfOthersAreKnownWithoutAnyFile is for an image that holds the
// binary only: a bucket is reached by TLS.
func TestCertificatesOfOthersAreKnownWithoutAnyFile(t *testing.T) {
	const inside = "STRATA_TEST_WITHOUT_ROOTS"
	if os.Getenv(inside) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), inside+"=1", "SSL_CERT_FILE=/nonexistent", "SSL_CERT_DIR=/nonexistent")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	pool, err := x509.SystemCertPool()
	if err != nil || pool.Equal(x509.NewCertPool()) {
		t.Errorf("no roots: %v", err)
	}
}
