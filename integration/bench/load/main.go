package load

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// Ready is the line that the process writes once it is connected. It then waits
// for a line, runs, and writes the Result as JSON.
const Ready = "ready"

// The open loop wakes when a request is due, but not more often or more seldom than this.
const (
	tickLeast = 50 * time.Microsecond
	tickMost  = time.Millisecond
)

// Main runs the spec that is in JSON, the body of the generator's process.
func Main(spec string, in io.Reader, out io.Writer) error {
	var s Spec
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	if err := s.check(); err != nil {
		return err
	}
	// One thread, and nothing to collect: it allocates before the run only.
	runtime.GOMAXPROCS(1)
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(1 << 30)
	result, err := run(s, func() error {
		if _, err := fmt.Fprintln(out, Ready); err != nil {
			return err
		}
		_, err := bufio.NewReader(in).ReadString('\n')
		return err
	})
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	return json.NewEncoder(out).Encode(result)
}

// run connects, calls await, and measures from then on.
func run(s Spec, await func() error) (_ Result, err error) {
	var c interface {
		client
		measured() Result
	}
	var begun *time.Time
	conns := s.Conns
	switch s.Kind {
	case Produce:
		p := newProducer(s)
		c, begun = p, &p.begun
	case Paced:
		p := newPacer(s)
		c, begun = p, &p.begun
	case Consume:
		k := newSkimmer(s)
		c, begun, conns = k, &k.begun, s.Groups*s.Members
		if s.Verify {
			c = k.consumer
		}
		s.Window = 1
	}
	l, err := open(s.Addr, conns, s.Window, c)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	if err := await(); err != nil {
		return Result{}, err
	}
	before := cpuSeconds()
	*begun = time.Now()
	if s.Kind == Paced {
		if err := l.wakeEvery(min(max(time.Duration(float64(time.Second)/s.Rate), tickLeast), tickMost)); err != nil {
			return Result{}, err
		}
	}
	if err := l.run(); err != nil {
		return Result{}, err
	}
	result := c.measured()
	result.CPUSeconds = cpuSeconds() - before
	return result, nil
}

// cpuSeconds is what this process has used so far.
func cpuSeconds() float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(fmt.Sprintf("getrusage: %v", err)) // a bad argument
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
