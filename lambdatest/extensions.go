package lambdatest

import (
	"encoding/json"
	"io"
	"net/http"
)

// Headers of the Extensions API.
const (
	headerExtensionName = "Lambda-Extension-Name"
	headerExtensionID   = "Lambda-Extension-Identifier"
)

// maxExtensions is the most that one function may have: see the page "Lambda quotas".
const maxExtensions = 10

// extension is an internal extension: one that runs inside the process. lambda.WithEnableSIGTERM registers one without
// any events, so that Lambda sends SIGTERM to the process at the end.
type extension struct {
	name  string
	polls int // that wait for an event
}

// addExtension registers an extension and returns its identifier, or the error type of the refusal.
func (q *queue) addExtension(name string) (id, refusal string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.ready:
		return "", "Extension.RegistrationClosed"
	case len(q.extensions) == maxExtensions:
		return "", "Extension.TooManyExtensions"
	}
	for _, other := range q.extensions {
		if other.name == name {
			return "", "Extension.InvalidExtensionState"
		}
	}
	id = newUUID()
	q.extensions[id] = &extension{name: name}
	q.broadcast()
	return id, ""
}

// pollExtension counts a poll of an extension in (1) or out (-1), and reports whether there is such an extension.
func (q *queue) pollExtension(id string, change int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	ext := q.extensions[id]
	if ext == nil {
		return false
	}
	ext.polls += change
	q.broadcast()
	return true
}

// hasExtension says whether the process registered an extension, and so gets time to shut down.
func (q *queue) hasExtension() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.extensions) > 0
}

// register registers an internal extension without events. No others are emulated, and those that want events
// are refused rather than left waiting for them.
func (a *runtimeAPI) register(w http.ResponseWriter, r *http.Request) {
	name := r.Header.Get(headerExtensionName)
	if name == "" {
		refuse(w, http.StatusForbidden, "Extension.InvalidExtensionName", "Empty extension name")
		return
	}
	var request struct {
		Events []string `json:"events"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(&request); err != nil {
		refuse(w, http.StatusForbidden, "InvalidRequestFormat", err.Error())
		return
	}
	if len(request.Events) > 0 {
		refuse(w, http.StatusForbidden, "Extension.InvalidEventType", "Events of extensions are not emulated")
		return
	}
	id, refusal := a.queue.addExtension(name)
	if refusal != "" {
		refuse(w, http.StatusForbidden, refusal, "The extension cannot be registered")
		return
	}
	doc, _ := json.Marshal(map[string]string{ // only strings
		"functionName":    a.cfg.FunctionName,
		"functionVersion": version,
		"handler":         handler,
	})
	w.Header().Set(headerExtensionID, id)
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(doc)
}

// extensionNext waits for an event that never comes.
func (a *runtimeAPI) extensionNext(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get(headerExtensionID)
	if id == "" {
		refuse(w, http.StatusForbidden, "Extension.MissingExtensionIdentifier", "Missing "+headerExtensionID+" header")
		return
	}
	if !a.queue.pollExtension(id, 1) {
		refuse(w, http.StatusForbidden, "Extension.UnknownExtensionIdentifier", "Unknown extension")
		return
	}
	<-r.Context().Done()
	a.queue.pollExtension(id, -1)
}
