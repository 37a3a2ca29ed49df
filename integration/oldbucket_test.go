package integration_test

import (
	"context"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stratabroker/strata/integration/harness"
)

// refusal is how long a start that cannot succeed may take to say so.
const refusal = 10 * time.Second

// refused starts a broker that must not start: exit status 1 and one line on
// stderr, which it returns.
func refused(t *testing.T, env []string, args ...string) string {
	t.Helper()
	r := harness.Run(t, env, args...)
	if r.Code != 1 {
		t.Errorf("exit status %d, want 1", r.Code)
	}
	if r.Took > refusal {
		t.Errorf("it took %s", r.Took)
	}
	line, isLine := strings.CutSuffix(r.Stderr, "\n")
	if !isLine || strings.Contains(line, "\n") || !strings.HasPrefix(line, "strata: ") || r.Stdout != "" {
		t.Errorf("want one line on stderr:\n%s%s", r.Stdout, r.Stderr)
	}
	return line
}

// mustSay checks that a line has all the words that a person needs.
func mustSay(t *testing.T, line string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(line, word) {
			t.Errorf("%q is not said: %s", word, line)
		}
	}
}

// devArgs are a strata dev beside all others.
func devArgs(t *testing.T, dataDir string, more ...string) []string {
	t.Helper()
	return append([]string{"dev", "--data-dir", dataDir, "--listen", harness.FreeAddress(t), "--http", harness.FreeAddress(t)}, more...)
}

func TestAnOldBucketUnderANewDataFolderIsRefused(t *testing.T) {
	for name, open := range harness.EachStore {
		t.Run(name, func(t *testing.T) {
			bucket := open(t)
			broker := harness.Start(t, harness.Options{Bucket: bucket.URL, Env: bucket.Env, Set: quickSweeps()})
			fill(t, broker, "archive", 2, 4<<20)
			settle(t, broker, bucket, "archive", 2)
			broker.Stop()
			before := bucket.Digests()
			if len(before) < 6 {
				t.Fatalf("the bucket holds too little: %q", before)
			}
			if err := os.RemoveAll(broker.DataDir); err != nil {
				t.Fatal(err)
			}

			// Twice: the first refusal must not make the folder look known to the second.
			for range 2 {
				line := refused(t, bucket.Env, devArgs(t, broker.DataDir, "--bucket", bucket.URL)...)
				mustSay(t, line, bucket.URL, "belongs to cluster", "data folder is new")
			}
			if after := bucket.Digests(); !maps.Equal(before, after) {
				t.Errorf("the bucket was touched:\nbefore %q\nafter  %q", before, after)
			}
			bucket.VerifyClean()
		})
	}
}

func TestAFolderOfAnotherClusterIsRefusedTheBucket(t *testing.T) {
	ours, theirs := harness.DirBucket(t), harness.DirBucket(t)
	first := harness.Start(t, harness.Options{Bucket: ours.URL})
	second := harness.Start(t, harness.Options{Bucket: theirs.URL})
	first.Stop()
	second.Stop()
	before := theirs.Digests()
	line := refused(t, nil, devArgs(t, first.DataDir, "--bucket", theirs.URL)...)
	mustSay(t, line, theirs.URL, "belongs to cluster")
	if after := theirs.Digests(); !maps.Equal(before, after) {
		t.Errorf("the bucket was touched:\nbefore %q\nafter  %q", before, after)
	}
}

// A first start that dies between its first object and the moment the cluster
// knows of its bucket must not lock itself out.
func TestAFirstStartThatDiedIsTakenUpAgain(t *testing.T) {
	for name, last := range map[string]string{"before cluster.json": "/cluster.json", "before OWNER": "/OWNER"} {
		t.Run(name, func(t *testing.T) {
			bucket := harness.MinIOBucket(t)
			proxy := harness.NewProxy(t, bucket.Endpoint())
			proxy.HoldPuts(func(path string) bool { return strings.HasSuffix(path, last) })
			broker := harness.Launch(t, harness.Options{Bucket: bucket.Through(proxy), Env: bucket.Env})
			proxy.AwaitHeld(1, refusal)
			broker.Kill9()
			proxy.Release() // what was under way arrives late
			proxy.AwaitAnswered(refusal)
			broker.Again()
			broker.Stop()
			bucket.VerifyClean()
		})
	}
}

func TestWhatBarsAStartIsSaidInOneLine(t *testing.T) {
	t.Run("a second broker on the folder", func(t *testing.T) {
		broker := harness.Start(t, harness.Options{})
		line := refused(t, nil, devArgs(t, broker.DataDir)...)
		mustSay(t, line, broker.DataDir)
		if err := broker.Client().Ping(t.Context()); err != nil {
			t.Errorf("the first broker is disturbed: %v", err)
		}
	})
	t.Run("a taken port", func(t *testing.T) {
		var config net.ListenConfig
		taken, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = taken.Close() }()
		address := taken.Addr().String()
		folder := filepath.Join(t.TempDir(), "data")
		for _, flag := range []string{"--listen", "--http"} {
			mustSay(t, refused(t, nil, devArgs(t, folder, flag, address)...), address, "in use")
		}
		if _, err := os.Stat(folder); err == nil {
			t.Error("a data folder was made")
		}
	})
	t.Run("an unwritable folder", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		write(t, file, "in the way")
		for _, folder := range []string{file, filepath.Join(file, "data")} {
			mustSay(t, refused(t, nil, devArgs(t, folder)...), folder)
		}
	})
	t.Run("a folder of a newer format", func(t *testing.T) {
		folder := t.TempDir()
		write(t, filepath.Join(folder, "meta.properties"), "version=1\nstrata.format=99\nnode.id=1\n")
		mustSay(t, refused(t, nil, devArgs(t, folder)...), folder, "99", "newer")
	})
	t.Run("a folder of another program", func(t *testing.T) {
		folder := t.TempDir()
		write(t, filepath.Join(folder, "meta.properties"), "version=1\nnode.id=1\ncluster.id=x\n")
		mustSay(t, refused(t, nil, devArgs(t, folder)...), folder)
	})
	t.Run("a folder that lost a part", func(t *testing.T) {
		broker := harness.Start(t, harness.Options{})
		broker.Stop()
		for _, part := range []string{"strata-metadata", "meta.properties"} {
			bucket := harness.InDataDir(t, broker.DataDir)
			before := bucket.Digests()
			if err := os.RemoveAll(filepath.Join(broker.DataDir, part)); err != nil {
				t.Fatal(err)
			}
			mustSay(t, refused(t, nil, devArgs(t, broker.DataDir)...), broker.DataDir)
			if after := bucket.Digests(); !maps.Equal(before, after) {
				t.Errorf("without %s the bucket was touched:\nbefore %q\nafter  %q", part, before, after)
			}
		}
	})
	t.Run("a folder of another node", func(t *testing.T) {
		broker := harness.Start(t, harness.Options{})
		broker.Stop()
		mustSay(t, refused(t, nil, devArgs(t, broker.DataDir, "--set", "node.id=2")...), broker.DataDir, "node.id=1", "node.id=2")
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestABadBucketURLIsSaidInOneLine(t *testing.T) {
	for name, c := range map[string]struct {
		url  string
		says []string
	}{
		"no scheme":             {"/var/archive", []string{"/var/archive", "dir:///abs/path", "s3://bucket/prefix"}},
		"an unknown scheme":     {"gs://archive", []string{"gs", "dir:///abs/path", "s3://bucket/prefix"}},
		"a relative path":       {"dir://archive", []string{"absolute"}},
		"no bucket":             {"s3:///prefix", []string{"bucket name"}},
		"an unknown parameter":  {"s3://archive/x?zone=1", []string{"zone", "endpoint", "region", "path.style"}},
		"an endpoint of no use": {"s3://archive/x?endpoint=nowhere", []string{"endpoint"}},
		"MinIO without a place": {"minio://archive/x", []string{"endpoint", "host:port"}},
		"credentials":           {"s3://id:secret@archive/x", []string{"credentials"}},
		"a folder in the way":   {"dir:///dev/null/archive", []string{"/dev/null"}},
	} {
		t.Run(name, func(t *testing.T) {
			line := refused(t, nil, devArgs(t, filepath.Join(t.TempDir(), "data"), "--bucket", c.url)...)
			mustSay(t, line, append(c.says, "strata.bucket.url")...)
			if strings.Contains(line, "secret") {
				t.Errorf("a password is printed: %s", line)
			}
		})
	}
	t.Run("a bucket that is not there", func(t *testing.T) {
		bucket := harness.MinIOBucket(t)
		url := strings.Replace(bucket.URL, "s3://t-", "s3://absent-", 1)
		mustSay(t, refused(t, bucket.Env, devArgs(t, filepath.Join(t.TempDir(), "data"), "--bucket", url)...), url)
	})
	t.Run("wrong keys", func(t *testing.T) {
		bucket := harness.MinIOBucket(t)
		env := []string{"AWS_ACCESS_KEY_ID=nobody", "AWS_SECRET_ACCESS_KEY=wrong"}
		line := refused(t, env, devArgs(t, filepath.Join(t.TempDir(), "data"), "--bucket", bucket.URL)...)
		mustSay(t, line, bucket.URL, "denied")
		if _, err := bucket.Store.Get(context.WithoutCancel(t.Context()), "cluster.json", 0, 1); err == nil {
			t.Error("it was written")
		}
	})
	t.Run("nobody answers", func(t *testing.T) {
		url := "s3://archive/x?endpoint=http://" + harness.FreeAddress(t) + "&region=us-east-1"
		mustSay(t, refused(t, harness.MinIO(t).Env(), devArgs(t, filepath.Join(t.TempDir(), "data"), "--bucket", url)...), "refused")
	})
}
