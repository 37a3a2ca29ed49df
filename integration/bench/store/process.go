package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// order is a line to the proxy's process; state is the line that answers it.
type (
	order struct {
		Rate *float64 `json:"rate,omitempty"` // bytes a second; nil changes nothing
	}
	state struct {
		Counts Counts `json:"counts"`
		Bytes  int64  `json:"bytes"`
	}
)

// ServeProxy is the body of the proxy's process. It stands before the server at
// target, writes its endpoint, and answers each order with the counts so far. It
// ends with in: as that is a pipe from the process that started it, it ends with that.
func ServeProxy(ctx context.Context, target string, in io.Reader, out io.Writer) error {
	p, err := NewProxy(ctx, target)
	if err != nil {
		return err
	}
	defer p.Close()
	orders, answers := json.NewDecoder(in), json.NewEncoder(out)
	if err := answers.Encode(p.Endpoint); err != nil {
		return err
	}
	for {
		var o order
		if err := orders.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if o.Rate != nil {
			p.Throttle(*o.Rate)
		}
		var s state
		s.Counts, s.Bytes = p.Counts()
		if err := answers.Encode(s); err != nil {
			return err
		}
	}
}

// proxyProcess is a proxy in a process of its own. One order at a time.
type proxyProcess struct {
	cmd     *exec.Cmd
	in      io.Closer
	orders  *json.Encoder
	answers *json.Decoder
}

// startProxy starts the process, as `bench proxy target`, and returns its endpoint too.
func startProxy(bench, target string) (p *proxyProcess, endpoint string, err error) {
	p = &proxyProcess{cmd: exec.Command(bench, "proxy", target)} //nolint:noctx // it ends with its input
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, "", err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, "", err
	}
	p.in, p.orders, p.answers = in, json.NewEncoder(in), json.NewDecoder(out)
	if err := p.answers.Decode(&endpoint); err != nil {
		return nil, "", errors.Join(fmt.Errorf("start the proxy: %w", err), p.close())
	}
	return p, endpoint, nil
}

func (p *proxyProcess) do(o order) (s state, err error) {
	if err = p.orders.Encode(o); err == nil {
		err = p.answers.Decode(&s)
	}
	if err != nil {
		err = fmt.Errorf("the proxy before the store: %w", err)
	}
	return s, err
}

func (p *proxyProcess) close() error { return errors.Join(p.in.Close(), p.cmd.Wait()) }
