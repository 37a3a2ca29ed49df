package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stratabroker/strata/integration/harness"
)

const (
	imageLimit = 5 * time.Minute // builds and starts, on a busy machine
	imageUser  = 65532
)

// script runs a shell script of this repository in its root.
func script(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), imageLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestTheFolderOfTheImageIsAllThatABrokerNeeds runs the broker with nothing but
// what its image holds: as root in a root directory of its own and as the image's user.
// It is the whole test of the image where no Docker engine answers.
func TestTheFolderOfTheImageIsAllThatABrokerNeeds(t *testing.T) {
	temp, err := os.MkdirTemp("", "strata-image-") //nolint:usetesting // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(temp); err != nil {
			t.Error(err)
		}
	})
	script(t, []string{"STRATA_BINARY=" + harness.Binary(t)}, "docker/build.sh", "--folders", temp)
	for _, image := range []string{"strata", "minio"} {
		text, err := os.ReadFile(filepath.Join(temp, image, "Dockerfile"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "\nFROM scratch\n") || !strings.Contains(string(text), fmt.Sprintf("\nUSER %d:%d\n", imageUser, imageUser)) {
			t.Errorf("the image %s is not from scratch, or runs as root", image)
		}
		for _, m := range regexp.MustCompile(`(?m)^COPY (?:--chown=\S+ )?(\S+) `).FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(temp, image, m[1])); err != nil {
				t.Errorf("image %s: %v", image, err)
			}
		}
	}

	root := filepath.Join(temp, "strata")
	if err := os.Chmod(temp, 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), filepath.Join(root, "strata"), args...)
		cmd.Env = []string{"HOME=/data"}
		if os.Getuid() == 0 {
			cmd.Path, cmd.Dir = "/strata", "/"
			cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: imageUser, Gid: imageUser}}
		}
		return cmd
	}
	data, config := filepath.Join(root, "data"), filepath.Join(root, "server.properties")
	if os.Getuid() == 0 {
		data, config = "/data", "/server.properties"
		if err := os.Chown(filepath.Join(root, "data"), imageUser, imageUser); err != nil {
			t.Fatal(err)
		}
	}
	address, http := harness.FreeAddress(t), harness.FreeAddress(t)
	broker := run("server", "--config", config, "--set", "log.dirs="+data, "--set", "listeners=PLAINTEXT://"+address,
		"--set", "advertised.listeners=PLAINTEXT://"+address, "--set", "strata.http.listen="+http, "--set", "strata.bucket.url=dir://"+data+"/bucket")
	var log strings.Builder
	broker.Stdout, broker.Stderr = &log, &log
	if err := broker.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = broker.Process.Signal(syscall.SIGTERM) // Wait tells
		if err := broker.Wait(); err != nil {
			t.Errorf("%v\n%s", err, log.String())
		}
	}()
	harness.Eventually(t, imageLimit, "the health check of the image passes", func() error {
		out, err := run("health", "--http", http).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	produce := run("produce", "t", "--bootstrap-server", address)
	produce.Stdin = strings.NewReader("a record\n")
	if out, err := produce.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := run("consume", "t", "--bootstrap-server", address, "--until-end").Output(); err != nil || string(out) != "a record\n" {
		t.Errorf("%v: %q", err, out)
	}
}

// engine tells whether a Docker engine answers.
func engine(t *testing.T) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return exec.CommandContext(ctx, "docker", "info").Run() == nil
}

// composeCommand is what there is of `docker compose` and `docker-compose`; the latter is installed where neither is.
func composeCommand(t *testing.T) []string {
	t.Helper()
	if exec.CommandContext(t.Context(), "docker", "compose", "version").Run() == nil {
		return []string{"docker", "compose"}
	}
	script(t, nil, "integration/setup.sh", "compose")
	return []string{"docker-compose"}
}

// TestTheComposeFileKeepsRecordsInMinIO builds both images, starts them, and
// reads through the published port what lies in MinIO only; also after a stop and a start.
func TestTheComposeFileKeepsRecordsInMinIO(t *testing.T) {
	if !engine(t) {
		t.Log("no Docker engine answers: TestTheFolderOfTheImageIsAllThatABrokerNeeds is the test of the image here")
		return
	}
	name := fmt.Sprintf("strata-test-%d", os.Getpid())
	address, http := harness.FreeAddress(t), harness.FreeAddress(t)
	port := func(address string) string {
		_, p, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	env := []string{
		"STRATA_BINARY=" + harness.Binary(t), "STRATA_IMAGE=" + name, "MINIO_IMAGE=" + name + "-minio", "COMPOSE_PROJECT_NAME=" + name,
		"STRATA_PORT=" + port(address), "STRATA_HTTP_PORT=" + port(http), "DOCKER_BUILDKIT=0",
	}
	command := composeCommand(t)
	compose := func(args ...string) string {
		t.Helper()
		return script(t, env, command[0], append(append(command[1:len(command):len(command)], "-f", "docker/compose.yaml"), args...)...)
	}
	script(t, env, "docker/build.sh")
	t.Cleanup(func() {
		for _, args := range [][]string{
			append(command[1:len(command):len(command)], "-f", "docker/compose.yaml", "down", "-v", "--timeout", "20"),
		} {
			cmd := exec.Command(command[0], args...)
			cmd.Dir, cmd.Env = "..", append(os.Environ(), env...)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("compose down: %v\n%s", err, out)
			}
		}
		if out, err := exec.Command("docker", "image", "rm", name, name+"-minio").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		if t.Failed() {
			t.Log("the images and volumes are removed")
		}
	})
	compose("up", "-d")
	awaitHealthy(t, name, http, compose)

	strata := func(args ...string) string {
		t.Helper()
		r := harness.Run(t, []string{"STRATA_BOOTSTRAP=" + address}, args...)
		if r.Code != 0 {
			t.Fatalf("strata %s: %s\n%s", strings.Join(args, " "), r.Stderr, compose("logs", "--tail=30"))
		}
		return r.Stdout
	}
	var lines strings.Builder
	for n := range 5000 {
		fmt.Fprintf(&lines, "%d %0600d\n", time.Now().UnixMilli(), n)
	}
	file := filepath.Join(t.TempDir(), "lines")
	if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	strata("topic", "create", "t", "--config", "segment.bytes=1048576", "--config", "local.retention.bytes=1")
	strata("produce", "t", "--file", file, "--timestamp-separator", " ")
	harness.Eventually(t, imageLimit, "the first segments are in MinIO only", func() error {
		var d struct {
			Topics []struct {
				Partitions []struct {
					Local int64 `json:"local_start"`
				} `json:"partition_list"`
			} `json:"topics"`
		}
		if err := json.Unmarshal([]byte(strata("topic", "describe", "t", "--json")), &d); err != nil {
			return err
		}
		if d.Topics[0].Partitions[0].Local == 0 {
			return fmt.Errorf("so far %+v", d)
		}
		return nil
	})
	want := strata("consume", "t", "--until-end")
	if strings.Count(want, "\n") != 5000 {
		t.Fatalf("%d records", strings.Count(want, "\n"))
	}
	compose("stop")
	compose("start")
	awaitHealthy(t, name, http, compose)
	if got := strata("consume", "t", "--until-end"); got != want {
		t.Errorf("after a stop and a start %d records of %d", strings.Count(got, "\n"), strings.Count(want, "\n"))
	}
}

// awaitHealthy waits for the broker, and for the engine to call its container healthy.
func awaitHealthy(t *testing.T, name, http string, compose func(...string) string) {
	t.Helper()
	harness.Eventually(t, imageLimit, "the container is healthy", func() error {
		if r := harness.Run(t, nil, "health", "--http", http); r.Code != 0 {
			return fmt.Errorf("%s\n%s", r.Stderr, compose("logs", "--tail=10"))
		}
		healthy := script(t, nil, "docker", "ps", "--quiet", "--filter", "label=com.docker.compose.project="+name, "--filter", "health=healthy")
		if strings.TrimSpace(healthy) == "" {
			return fmt.Errorf("docker ps: %s", compose("ps"))
		}
		return nil
	})
}
