package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/stratabroker/strata/integration/bench/load"
)

// Lab is what all brokers of a run share.
type Lab struct {
	Folder    string // of all data, on the disk that is measured
	KafkaLibs string // folder of Kafka's jars
	Strata    string // the binary
	Bench     string // this binary, for the load generator

	fill *filler
}

// New makes the folder.
func New(folder, kafkaLibs, strata, bench string) (*Lab, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	fill, err := newFiller(folder)
	if err != nil {
		return nil, err
	}
	return &Lab{Folder: folder, KafkaLibs: kafkaLibs, Strata: strata, Bench: bench, fill: fill}, nil
}

// Close removes what the lab made beside the brokers.
func (l *Lab) Close() error { return l.fill.close() }

// NeedDisk tells whether so many bytes may be written to the folder.
func (l *Lab) NeedDisk(bytes int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(l.Folder, &fs); err != nil {
		return fmt.Errorf("free disk at %s: %w", l.Folder, err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < bytes {
		return fmt.Errorf("it needs %d GB of disk and %s has %d GB free: make room, or name a folder elsewhere with FLAGS='-work FOLDER'",
			(bytes+1e9-1)/1e9, l.Folder, free/1e9)
	}
	return nil
}

// Settle makes the machine ready for a leg: nothing is dirty and the page cache is full.
func (l *Lab) Settle() error {
	unix.Sync()
	return l.fill.fill()
}

// Generator is one run of the load generator, connected and waiting.
type Generator struct {
	cmd *exec.Cmd
	in  *bufio.Reader
	out interface {
		Write([]byte) (int, error)
		Close() error
	}
	stderr strings.Builder
}

// Prepare starts a generator process and waits until it is connected.
func (l *Lab) Prepare(ctx context.Context, s load.Spec) (*Generator, error) {
	spec, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	g := &Generator{cmd: exec.CommandContext(ctx, l.Bench, "load", string(spec))}
	g.cmd.Stderr = &g.stderr
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if g.out, err = g.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	g.in = bufio.NewReader(out)
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := g.in.ReadString('\n')
	if err != nil || strings.TrimSpace(line) != load.Ready {
		return nil, g.failed(fmt.Errorf("the generator is not ready: %q %w", line, err))
	}
	return g, nil
}

// Begin lets the load go.
func (g *Generator) Begin() error {
	if _, err := g.out.Write([]byte("go\n")); err != nil {
		return g.failed(err)
	}
	return nil
}

// Await returns what was measured, once the load is done.
func (g *Generator) Await() (load.Result, error) {
	var r load.Result
	line, err := g.in.ReadBytes('\n')
	if err != nil {
		return r, g.failed(err)
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return r, g.failed(err)
	}
	return r, g.cmd.Wait()
}

func (g *Generator) failed(err error) error {
	_ = g.out.Close()
	_ = g.cmd.Process.Kill() // an error says that it has ended
	err = errors.Join(err, g.cmd.Wait())
	return fmt.Errorf("load generator: %w: %s", err, g.stderr.String())
}

// Measured is one leg: what the generator saw, and the broker's CPU time meanwhile.
type Measured struct {
	load.Result
	BrokerCPU float64 // seconds
}

// Run runs one load against a broker.
func (l *Lab) Run(ctx context.Context, b *Broker, s load.Spec) (Measured, error) {
	s.Addr = b.Addr
	m, err := l.run(ctx, b, s)
	if err != nil {
		return m, errors.Join(fmt.Errorf("%s %s at %s: %w", s.Kind, s.Topic, b.Name, err), b.Err())
	}
	return m, nil
}

func (l *Lab) run(ctx context.Context, b *Broker, s load.Spec) (m Measured, err error) {
	g, err := l.Prepare(ctx, s)
	if err != nil {
		return m, err
	}
	before, err := b.CPUSeconds()
	if err != nil {
		return m, g.failed(err)
	}
	if err := g.Begin(); err != nil {
		return m, err
	}
	if m.Result, err = g.Await(); err != nil {
		return m, err
	}
	after, err := b.CPUSeconds()
	m.BrokerCPU = after - before
	return m, err
}

// Ports are taken from below the range that systems use for outgoing connections.
const (
	firstPort = 20000
	ports     = 12000
)

func freeAddress(ctx context.Context) (string, error) {
	for range 100 {
		address := "127.0.0.1:" + strconv.Itoa(firstPort+rand.IntN(ports))
		var config net.ListenConfig
		listener, err := config.Listen(ctx, "tcp", address)
		if err == nil {
			return address, listener.Close()
		}
	}
	return "", errors.New("no free port")
}
