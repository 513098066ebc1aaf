package main

import (
	"encoding/json"
	"fmt"
	"os"
)

// childEnv is the environment variable that makes this program the function, or a burst, in place of the lab. Its
// value is a childSettings in JSON.
const childEnv = "FREEZELAB_CHILD"

// childSettings are what a child process has to know.
type childSettings struct {
	clientSettings
	URL   string
	Burst int // the requests to make at once; 0 makes it the function
}

// env returns the environment entry that carries s.
func (s childSettings) env() string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings, numbers and bytes always encode
	}
	return childEnv + "=" + string(b)
}

// runChild does what the environment asks of a child process, and reports false if it asks nothing.
func runChild() bool {
	env, ok := os.LookupEnv(childEnv)
	if !ok {
		return false
	}
	if err := child(env); err != nil {
		fmt.Fprintln(os.Stderr, "freezelab: child process:", err)
		os.Exit(1)
	}
	return true
}

func child(env string) error {
	var s childSettings
	if err := json.Unmarshal([]byte(env), &s); err != nil {
		return err
	}
	c, err := s.newClient()
	if err != nil {
		return err
	}
	if s.Burst > 0 {
		return json.NewEncoder(os.Stdout).Encode(burst(c, s.URL, s.Burst))
	}
	serveFunction(c, s.URL) // does not return
	return nil
}
