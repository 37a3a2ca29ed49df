package server

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// errShort is a part that ended before its length: the log was truncated, which
// only happens above what clients see.
var errShort = errors.New("reply is shorter than announced")

// sendChunk is the most that one sendfile is asked for: the deadline is renewed for each.
const sendChunk = mib

// sendFile writes a range of a file from the page cache to the socket.
func (w *stallWriter) sendFile(f *os.File, offset, length int64) error {
	source, err := f.SyscallConn()
	if err != nil {
		return err
	}
	for end := offset + length; offset < end; {
		n := min(end-offset, sendChunk)
		err := w.attempt(func() (sent int64, err error) {
			ctlErr := source.Control(func(in uintptr) {
				sent, err = w.drain("sendfile", n, func(out int, sent int64) (int, error) {
					at := offset + sent
					return unix.Sendfile(out, int(in), &at, int(n-sent))
				})
			})
			offset, n = offset+sent, n-sent
			return sent, errors.Join(err, ctlErr)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// writeMore writes b so that it leaves together with what follows.
func (w *stallWriter) writeMore(b []byte) error {
	return w.attempt(func() (int64, error) {
		sent, err := w.drain("sendmsg", int64(len(b)), func(out int, sent int64) (int, error) {
			return unix.SendmsgN(out, b[sent:], nil, nil, unix.MSG_MORE|unix.MSG_NOSIGNAL)
		})
		b = b[sent:]
		return sent, err
	})
}

// drain calls a system call that sends some of what is left until n bytes are sent,
// waiting where the socket is full; fewer are sent only with an error.
func (w *stallWriter) drain(name string, n int64, send func(out int, sent int64) (int, error)) (sent int64, err error) {
	waitErr := w.raw.Write(func(out uintptr) bool {
		for sent < n {
			got, sendErr := send(int(out), sent)
			switch {
			case errors.Is(sendErr, unix.EINTR):
				continue
			case errors.Is(sendErr, unix.EAGAIN):
				return false
			case sendErr != nil:
				err = os.NewSyscallError(name, sendErr)
				return true
			case got == 0:
				err = errShort
				return true
			}
			sent += int64(got)
		}
		return true
	})
	return sent, errors.Join(err, waitErr)
}
