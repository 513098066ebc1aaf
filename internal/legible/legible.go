// Package legible makes text fit to be shown: in errors, lines of a log, spans and metrics. A server, a proxy or whoever
// chooses a URL can have a say in nearly all of that text. It must not fill a log, forge a line of it, or move the cursor
// of a terminal.
//
// This is the one place where the length and the characters of such text are decided.
package legible

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Max is the length of the longest text that is shown, in bytes.
const Max = 512

// Text returns s as it can be shown. What is not printable (control characters, line breaks, characters that change the
// direction of writing, bytes that are not UTF-8) is escaped as in a Go string literal. A text that is longer than [Max]
// bytes then is cut, and says how long it was.
//
// The text of a text is the text itself.
func Text(s string) string {
	if len(s) <= Max && printable(s) {
		return s
	}
	var b strings.Builder
	kept := 0 // bytes of b that are left if the text is cut
	for rest := s; rest != "" && b.Len() <= Max; {
		r, size := utf8.DecodeRuneInString(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, rest[0])
		case strconv.IsPrint(r):
			b.WriteString(rest[:size])
		default:
			quoted := strconv.QuoteRune(r) // in single quotes
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		if b.Len() <= Max-maxCut {
			kept = b.Len()
		}
		rest = rest[size:]
	}
	if b.Len() <= Max {
		return b.String()
	}
	return b.String()[:kept] + fmt.Sprintf(cut, len(s))
}

// cut ends a text that was cut. maxCut is how long that can be.
const (
	cut    = "... (%d bytes)"
	maxCut = len("... ( bytes)") + len("18446744073709551615")
)

func printable(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c >= 0x7f {
			return printableRunes(s[i:])
		}
	}
	return true
}

func printableRunes(s string) bool {
	for i, r := range s {
		if !strconv.IsPrint(r) || r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)) {
			return false
		}
	}
	return true
}

// Error returns an error with the text of err as it can be shown: err itself, if its text can. errors.Is and errors.As find
// err in it. It is a [net.Error] if there is one in err, because some ask an error for that and not its tree: *url.Error for one.
func Error(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	shown := Text(text)
	if shown == text {
		return err
	}
	if e, ok := errors.AsType[net.Error](err); ok {
		return &shownNetError{shownError{shown, err}, e}
	}
	return &shownError{shown, err}
}

type shownError struct {
	text string
	err  error
}

func (e *shownError) Error() string { return e.text }
func (e *shownError) Unwrap() error { return e.err }

type shownNetError struct {
	shownError
	cause net.Error
}

func (e *shownNetError) Timeout() bool   { return e.cause.Timeout() }
func (e *shownNetError) Temporary() bool { return e.cause.Temporary() } //nolint:staticcheck // callers still ask
