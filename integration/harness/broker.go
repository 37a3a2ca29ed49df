package harness

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	startLimit = 30 * time.Second // from the process to /readyz, also on a busy machine
	stopLimit  = 10 * time.Second
)

// Options say how a broker is started. The zero value is `strata dev` with a
// fresh data folder and its bucket inside that.
type Options struct {
	Server  bool              // strata server with a properties file, instead of strata dev
	Set     map[string]string // --set key=value
	Args    []string          // more arguments
	Env     []string          // more environment, such as the keys of a bucket
	Bucket  string            // URL; "" is a folder inside DataDir
	DataDir string            // "" is a fresh one
}

// Broker is one strata process, or the place of one that was stopped. Its
// methods fail the test that Start was given; one goroutine at a time may call them.
type Broker struct {
	Options               // may be changed before Again
	Addr    string        // host:port for Kafka clients; the same in each life
	HTTP    string        // host:port of /metrics
	ReadyIn time.Duration // from the start of the process to /readyz, of this life

	tb     testing.TB
	config string // properties file of strata server
	life   *life  // nil when it does not run
	past   []*life
}

// life is one process.
type life struct {
	cmd            *exec.Cmd
	stdout, stderr output
	exited         chan struct{} // closed once cmd has been waited for
}

// Start starts a broker and waits until it is ready. It ends with the test; a
// broker that ended by itself fails the test, and a failed test shows the end of its log.
func Start(tb testing.TB, o Options) *Broker {
	tb.Helper()
	b := prepare(tb, o)
	b.Again()
	return b
}

func prepare(tb testing.TB, o Options) *Broker {
	tb.Helper()
	if o.DataDir == "" {
		o.DataDir = filepath.Join(tb.TempDir(), "data")
	}
	b := &Broker{Options: o, Addr: FreeAddress(tb), HTTP: FreeAddress(tb), tb: tb}
	if o.Server {
		b.config = filepath.Join(tb.TempDir(), "server.properties")
	}
	tb.Cleanup(b.cleanup)
	return b
}

// Again starts the broker again after Stop or Kill9: on the same folder, ports
// and bucket, with Options as they are now.
func (b *Broker) Again() {
	b.tb.Helper()
	b.launch()
	l, begun := b.life, time.Now()
	err := poll(b.tb.Context(), startLimit, func() error {
		if l.ended() {
			return nil
		}
		return b.get("/readyz", nil)
	})
	b.ReadyIn = time.Since(begun)
	if l.ended() {
		b.tb.Fatalf("the broker ended at its start: %s", l.cmd.ProcessState)
	}
	if err != nil {
		b.tb.Fatalf("the broker is not ready: %v", err)
	}
}

// Launch is Start without waiting: for a broker that is to die before it is ready.
func Launch(tb testing.TB, o Options) *Broker {
	tb.Helper()
	b := prepare(tb, o)
	b.launch()
	return b
}

func (b *Broker) launch() {
	b.tb.Helper()
	if b.life != nil {
		b.tb.Fatal("the broker runs already")
	}
	l := &life{cmd: exec.Command(Binary(b.tb), b.args()...), exited: make(chan struct{})} //nolint:noctx // it is ended by cleanup, which shows its log first
	l.cmd.Env = append(os.Environ(), b.Env...)
	l.cmd.Stdout, l.cmd.Stderr = &l.stdout, &l.stderr
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // when the tests die without a word
	if err := l.cmd.Start(); err != nil {
		b.tb.Fatal(err)
	}
	b.life = l
	b.past = append(b.past, l)
	go func() {
		defer close(l.exited)
		_ = l.cmd.Wait() // ProcessState tells
	}()
}

// args are the command line, with the properties file written where there is one.
func (b *Broker) args() []string {
	args := []string{"dev", "--data-dir", b.DataDir, "--listen", b.Addr, "--http", b.HTTP}
	if b.Bucket != "" {
		args = append(args, "--bucket", b.Bucket)
	}
	if b.Server {
		args = []string{"server", "--config", b.config}
		lines := []string{
			"node.id=1", "process.roles=broker,controller", "listeners=PLAINTEXT://" + b.Addr,
			"log.dirs=" + b.DataDir, "offsets.topic.replication.factor=1", "strata.http.listen=" + b.HTTP, "",
		}
		if b.Bucket != "" {
			lines = append(lines, "strata.bucket.url="+b.Bucket, "")
		}
		if err := os.WriteFile(b.config, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			b.tb.Fatal(err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.Set)) {
		args = append(args, "--set", name+"="+b.Set[name])
	}
	return append(args, b.Args...)
}

func (l *life) ended() bool {
	select {
	case <-l.exited:
		return true
	default:
		return false
	}
}

// running is the process, which must not have ended by itself.
func (b *Broker) running() *life {
	b.tb.Helper()
	if b.life == nil || b.life.ended() {
		b.tb.Fatal("the broker does not run")
	}
	return b.life
}

// Stop stops the broker with SIGTERM and returns how long that took. An exit
// status other than 0 fails the test.
func (b *Broker) Stop() time.Duration {
	b.tb.Helper()
	l := b.running()
	begun := time.Now()
	b.signal(syscall.SIGTERM)
	select {
	case <-l.exited:
	case <-time.After(stopLimit):
		b.tb.Fatalf("the broker still runs %s after SIGTERM", stopLimit)
	}
	b.life = nil
	if code := l.cmd.ProcessState.ExitCode(); code != 0 {
		b.tb.Fatalf("exit status %d after SIGTERM", code)
	}
	return time.Since(begun)
}

// Kill9 ends the process at once, paused or not.
func (b *Broker) Kill9() {
	b.tb.Helper()
	l := b.running()
	b.signal(syscall.SIGKILL)
	<-l.exited
	b.life = nil
}

// Pause stops all threads of the process with SIGSTOP.
func (b *Broker) Pause() {
	b.tb.Helper()
	b.signal(syscall.SIGSTOP)
	b.awaitState(true)
}

// Resume lets a paused process go on.
func (b *Broker) Resume() {
	b.tb.Helper()
	b.signal(syscall.SIGCONT)
	b.awaitState(false)
}

func (b *Broker) signal(sig syscall.Signal) {
	b.tb.Helper()
	if err := b.running().cmd.Process.Signal(sig); err != nil {
		b.tb.Fatalf("%s: %v", sig, err)
	}
}

// awaitState waits until the kernel tells that the process is paused, or that it is not.
func (b *Broker) awaitState(paused bool) {
	b.tb.Helper()
	Eventually(b.tb, stopLimit, "the process is paused or resumed", func() error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.life.cmd.Process.Pid))
		if err != nil {
			return err
		}
		// "pid (name) S ...": the name may hold anything.
		_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')'):]), " ")
		if strings.HasPrefix(rest, "T") != paused {
			return fmt.Errorf("it is in state %.1s", rest)
		}
		return nil
	})
}

// PID is the process id.
func (b *Broker) PID() int {
	b.tb.Helper()
	return b.running().cmd.Process.Pid
}

// Log is what the broker wrote to stdout and stderr in its present or last life.
func (b *Broker) Log() (stdout, stderr string) {
	l := b.past[len(b.past)-1]
	return l.stdout.String(), l.stderr.String()
}

// Client makes a client of the broker that is closed with the test.
func (b *Broker) Client(opts ...kgo.Opt) *kgo.Client {
	b.tb.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.Addr)}, opts...)...)
	if err != nil {
		b.tb.Fatal(err)
	}
	b.tb.Cleanup(client.Close)
	return client
}

// get asks the HTTP listener; an answer other than 200 is an error.
func (b *Broker) get(path string, read func(*http.Response) error) error {
	ctx, cancel := context.WithTimeout(b.tb.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.HTTP+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	if read == nil {
		return nil
	}
	return read(resp)
}

func (b *Broker) cleanup() {
	if l := b.life; l != nil {
		if l.ended() {
			b.tb.Errorf("the broker ended by itself: %s", l.cmd.ProcessState)
		}
		if err := l.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			b.tb.Error(err)
		}
		<-l.exited
	}
	if !b.tb.Failed() {
		return
	}
	for i, l := range b.past[max(0, len(b.past)-2):] {
		b.tb.Logf("the end of the broker's log, life %d of %d:\n%s%s", max(0, len(b.past)-2)+i+1, len(b.past), tail(l.stdout.String()), tail(l.stderr.String()))
	}
}
