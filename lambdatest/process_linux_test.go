package lambdatest

import (
	"errors"
	"io/fs"
	"os"
	"testing"
)

func TestNothingLooksStoppedWhereProcIsNotMounted(t *testing.T) {
	if stopped, err := procfs(t.TempDir()).groupStopped(os.Getpid()); stopped || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stopped: %t, error: %v; want an error that names what is missing", stopped, err)
	}
}
