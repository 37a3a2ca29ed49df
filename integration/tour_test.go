package integration_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stratabroker/strata/integration/harness"
)

// tourLimit is far more than a tour takes.
const tourLimit = 5 * time.Minute

var (
	tourBlock   = regexp.MustCompile("(?s)<!-- tour -->\n```sh\n(.*?)```")
	printsBlock = regexp.MustCompile("(?s)<!-- prints -->\n```text\n(.*?)```")
	shellBlock  = regexp.MustCompile("(?s)([^\n]*)\n```(?:sh|bash|shell|console)\n(.*?)```")
	testedBy    = regexp.MustCompile(`^<!-- run by (Test\w+) -->$`)
)

// pages are the texts whose commands are run.
func pages(t *testing.T) []string {
	t.Helper()
	guides, err := filepath.Glob(filepath.Join("..", "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{filepath.Join("..", "README.md"), filepath.Join("..", "CONTRIBUTING.md"), filepath.Join("..", "ARCHITECTURE.md")}, guides...)
}

func page(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestEveryCommandOfTheDocsIsRunByATest looks at the mark above each block of
// commands: it is of the page's tour, or names the test that runs it.
func TestEveryCommandOfTheDocsIsRunByATest(t *testing.T) {
	var tests bytes.Buffer
	sources, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range sources {
		tests.WriteString(page(t, file))
	}
	found := 0
	for _, path := range pages(t) {
		for _, block := range shellBlock.FindAllStringSubmatch(page(t, path), -1) {
			found++
			if m := testedBy.FindStringSubmatch(block[1]); m != nil && strings.Contains(tests.String(), "func "+m[1]+"(") || block[1] == "<!-- tour -->" {
				continue
			}
			t.Errorf("%s: no test runs\n%s", path, block[2])
		}
	}
	if found < 8 {
		t.Errorf("found %d blocks only", found)
	}
}

// TestTheToursOfTheDocsWorkWhenPasted runs the commands of each page's tour as
// they stand there, but for the ports and the folder, and looks for the lines that the page
// says are printed, in their order.
func TestTheToursOfTheDocsWorkWhenPasted(t *testing.T) {
	for _, path := range pages(t) {
		if text := page(t, path); tourBlock.MatchString(text) {
			t.Run(filepath.Base(path), func(t *testing.T) { tour(t, text) })
		}
	}
}

func tour(t *testing.T, text string) {
	t.Helper()
	folder := t.TempDir()
	b := harness.Start(t, harness.Options{DataDir: filepath.Join(folder, "strata-data")})
	if err := os.Mkdir(filepath.Join(folder, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(harness.Binary(t), filepath.Join(folder, "bin", "strata")); err != nil {
		t.Fatal(err)
	}
	setup, err := filepath.Abs("setup.sh")
	if err != nil {
		t.Fatal(err)
	}
	script := "set -eo pipefail\nmake() { test \"$*\" = clients; '" + setup + "' kcat kafka; }\n"
	for _, block := range tourBlock.FindAllStringSubmatch(text, -1) {
		script += block[1]
	}
	script = strings.ReplaceAll(script, "127.0.0.1:9092", b.Addr)
	script = regexp.MustCompile(`(?m)strata health$`).ReplaceAllString(script, "strata health --http "+b.HTTP)

	ctx, cancel := context.WithTimeout(t.Context(), tourLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "STRATA_BOOTSTRAP="+b.Addr, "PATH="+filepath.Join(folder, "bin")+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	rest := "\n" + string(out)
	for _, block := range printsBlock.FindAllStringSubmatch(text, -1) {
		for line := range strings.Lines(block[1]) {
			if line == "...\n" {
				continue // an excerpt
			}
			line = strings.TrimSuffix(line, "...\n") // the beginning of a line
			_, after, found := strings.Cut(rest, "\n"+line)
			if !found {
				t.Fatalf("the tour did not print %q where the page says so:\n%s", line, out)
			}
			rest = "\n" + after
		}
	}
}

// TestMakeRunIsABrokerThatCtrlCStops is the first command of the README.
func TestMakeRunIsABrokerThatCtrlCStops(t *testing.T) {
	address, metrics := harness.FreeAddress(t), harness.FreeAddress(t)
	cmd := exec.CommandContext(t.Context(), "make", "run")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "STRATA_LISTENERS=PLAINTEXT://"+address, "STRATA_HTTP_LISTEN="+metrics, "STRATA_LOG_DIRS="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as a terminal does, for its ctrl-C
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }() // it may have ended
	harness.Eventually(t, tourLimit, "the broker of make run is ready", func() error {
		if r := harness.Run(t, nil, "health", "--http", metrics); r.Code != 0 {
			return errors.New(r.Stderr)
		}
		return nil
	})
	resp, err := http.Get("http://" + metrics + "/metrics")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("metrics: %v", err)
	} else if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case <-exited: // make says that it was interrupted
	case <-time.After(tourLimit):
		t.Fatal("it still runs after ctrl-C")
	}
	if !strings.Contains(out.String(), "is ready in") {
		t.Errorf("it said\n%s", out.String())
	}
	if help, err := exec.CommandContext(t.Context(), "make", "-C", "..", "help").Output(); err != nil || !strings.Contains(string(help), "make images") {
		t.Errorf("make help: %v\n%s", err, help)
	}
}

// TestTheServerOfTheReadmeStarts takes the README's properties file as it is,
// but for what is of one machine: the command line overrides it, as the README says.
func TestTheServerOfTheReadmeStarts(t *testing.T) {
	m := regexp.MustCompile("(?s)```properties\n(.*?)```").FindStringSubmatch(page(t, filepath.Join("..", "README.md")))
	if m == nil {
		t.Fatal("the README shows no properties file")
	}
	folder := t.TempDir()
	config := filepath.Join(folder, "server.properties")
	if err := os.WriteFile(config, []byte(m[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	address, metrics := harness.FreeAddress(t), harness.FreeAddress(t)
	cmd := exec.CommandContext(t.Context(), harness.Binary(t), "server", "--config", config, "--set", "strata.http.listen="+metrics,
		"--set", "advertised.listeners=PLAINTEXT://"+address, "--set", "log.dirs="+filepath.Join(folder, "data"))
	cmd.Env = slices.Concat(os.Environ(), []string{"STRATA_LISTENERS=PLAINTEXT://" + address, "STRATA_BUCKET_URL=dir://" + filepath.Join(folder, "bucket")})
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, tourLimit, "the broker is ready", func() error {
		if r := harness.Run(t, nil, "health", "--http", metrics); r.Code != 0 {
			return errors.New(r.Stderr)
		}
		return nil
	})
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
}
