package main

import "errors"

// throttle is for systems that can stop a process.
func throttle(_ int, share float64) (release func(), err error) {
	if share >= 1 {
		return func() {}, nil
	}
	return nil, errors.New("init needs a system that can stop a process: name the other measurements")
}
