package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// Time between two reports of a long command: on a terminal, where one takes the
// place of the last, and elsewhere.
const (
	terminalInterval = 200 * time.Millisecond
	progressInterval = 2 * time.Second
)

// progress tells on standard error how far a long command has come: on a
// terminal, or where --progress asks for it. One goroutine at a time uses it.
type progress struct {
	w        io.Writer
	on       bool
	terminal bool
	last     time.Time
	shown    bool // a line on the terminal is to be cleared
}

func progressFlag(c *cobra.Command, on *bool) {
	c.Flags().BoolVar(on, "progress", false, "tell how far it has come, also where standard error is no terminal")
}

func newProgress(cmd *cobra.Command, forced bool) *progress {
	p := &progress{w: cmd.ErrOrStderr(), last: time.Now()}
	if file, ok := p.w.(*os.File); ok {
		_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
		p.terminal = err == nil
	}
	p.on = forced || p.terminal
	return p
}

// tell reports, unless the last time was a moment ago.
func (p *progress) tell(format string, args ...any) {
	interval := progressInterval
	if p.terminal {
		interval = terminalInterval
	}
	now := time.Now()
	if !p.on || now.Sub(p.last) < interval {
		return
	}
	p.last = now
	if p.terminal {
		p.shown = true
		_, _ = fmt.Fprintf(p.w, "\r\x1b[K"+format, args...) // a report that is not seen harms nothing
		return
	}
	_, _ = fmt.Fprintf(p.w, format+"\n", args...)
}

// end leaves no half line behind.
func (p *progress) end() {
	if p.shown {
		p.shown = false
		_, _ = io.WriteString(p.w, "\r\x1b[K")
	}
}
