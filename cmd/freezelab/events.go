package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/thawhttp/thaw/lambdatest"
)

// parseEvents reads the events of a file: one JSON array of them, or JSON values one after another, as one a line.
func parseEvents(text []byte) ([][]byte, error) {
	var events []json.RawMessage
	for dec := json.NewDecoder(bytes.NewReader(text)); ; {
		var v json.RawMessage
		err := dec.Decode(&v)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("event %d, up to byte %d: %w", len(events)+1, dec.InputOffset(), err)
		}
		events = append(events, v)
	}
	if len(events) == 1 && events[0][0] == '[' {
		var list []json.RawMessage
		if err := json.Unmarshal(events[0], &list); err != nil {
			return nil, err
		}
		events = list
	}
	if len(events) == 0 {
		return nil, errors.New("no event: want a JSON array of events, or one JSON value a line")
	}
	payloads := make([][]byte, len(events))
	for i, e := range events {
		if len(e) > lambdatest.MaxPayload {
			return nil, fmt.Errorf("event %d has %d bytes: Lambda takes %d", i+1, len(e), lambdatest.MaxPayload)
		}
		payloads[i] = e
	}
	return payloads, nil
}
