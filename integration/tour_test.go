package integration_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stratabroker/strata/integration/harness"
)

// tourLimit is far more than the tour takes.
const tourLimit = 5 * time.Minute

var (
	tourBlock   = regexp.MustCompile("(?s)<!-- tour -->\n```sh\n(.*?)```")
	printsBlock = regexp.MustCompile("(?s)<!-- prints -->\n```text\n(.*?)```")
)

// TestTheTourOfTheReadmeWorksWhenPasted runs the commands of the tour as they
// stand there, but for the port and the folder, and looks for the lines that it
// says are printed, in their order.
func TestTheTourOfTheReadmeWorksWhenPasted(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
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
	blocks := tourBlock.FindAllStringSubmatch(string(readme), -1)
	for _, block := range blocks {
		script += block[1]
	}
	script = strings.ReplaceAll(script, "127.0.0.1:9092", b.Addr)
	script = regexp.MustCompile(`bin/strata (topic|produce|consume) `).ReplaceAllString(script, "bin/strata $1 --bootstrap-server "+b.Addr+" ")

	ctx, cancel := context.WithTimeout(t.Context(), tourLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir = folder
	out, err := cmd.CombinedOutput()
	if err != nil || len(blocks) < 4 {
		t.Fatalf("%d blocks, %v:\n%s", len(blocks), err, out)
	}
	rest := "\n" + string(out)
	for _, block := range printsBlock.FindAllStringSubmatch(string(readme), -1) {
		for line := range strings.Lines(block[1]) {
			if line == "...\n" {
				continue // an excerpt
			}
			_, after, found := strings.Cut(rest, "\n"+line)
			if !found {
				t.Fatalf("the tour did not print %q where the README says so:\n%s", line, out)
			}
			rest = "\n" + after
		}
	}
}
