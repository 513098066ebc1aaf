package lambdatest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const canAdvance = true

// clockFunctions are what takes the place of the functions of vdso(7): machine code that asks the kernel and adds the seconds
// that stand behind it. Like the originals, which System V's calling convention binds, it changes only registers that
// belong to the called.
var clockFunctions = map[string][]byte{
	// int clock_gettime(clockid_t edi, struct timespec *rsi). Clocks that count CPU time stay: 2, 3 and negative ones.
	"__vdso_clock_gettime": {
		0xb8, 228, 0, 0, 0, //       mov  eax, SYS_clock_gettime
		0x0f, 0x05, //               syscall
		0x85, 0xc0, //               test eax, eax
		0x75, 0x16, //               jnz  done
		0x85, 0xff, //               test edi, edi
		0x78, 0x12, //               js   done
		0x8d, 0x4f, 0xfe, //         lea  ecx, [rdi-2]
		0x83, 0xf9, 0x01, //         cmp  ecx, 1
		0x76, 0x0a, //               jbe  done
		0x48, 0x8b, 0x15, 4, 0, 0, 0, // mov rdx, [seconds]
		0x48, 0x01, 0x16, //         add  [rsi], rdx
		0xc3, //               done: ret
	},
	// int gettimeofday(struct timeval *rdi, struct timezone *rsi)
	"__vdso_gettimeofday": {
		0xb8, 96, 0, 0, 0, //        mov  eax, SYS_gettimeofday
		0x0f, 0x05, //               syscall
		0x85, 0xc0, //               test eax, eax
		0x75, 0x0f, //               jnz  done
		0x48, 0x85, 0xff, //         test rdi, rdi
		0x74, 0x0a, //               jz   done
		0x48, 0x8b, 0x15, 4, 0, 0, 0, // mov rdx, [seconds]
		0x48, 0x01, 0x17, //         add  [rdi], rdx
		0xc3, //               done: ret
	},
	// time_t time(time_t *rdi)
	"__vdso_time": {
		0xb8, 201, 0, 0, 0, //       mov  eax, SYS_time
		0x0f, 0x05, //               syscall
		0x48, 0x03, 0x05, 9, 0, 0, 0, // add rax, [seconds]
		0x48, 0x85, 0xff, //         test rdi, rdi
		0x74, 0x03, //               jz   done
		0x48, 0x89, 0x07, //         mov  [rdi], rax
		0xc3, //               done: ret
	},
}

// setClockAhead sets by how much the clocks of the stopped process are ahead of the kernel's.
func (p *process) setClockAhead(ahead time.Duration) error {
	dir := filepath.Join("/proc", strconv.Itoa(p.handle.Pid))
	low, high, err := vdso(dir)
	if err != nil {
		return err
	}
	if err := inside(dir, low, high); err != nil {
		return err
	}
	mem, err := os.OpenFile(filepath.Join(dir, "mem"), os.O_RDWR, 0)
	if err != nil {
		return forbidden(err)
	}
	defer mem.Close()
	image := make([]byte, high-low)
	if _, err := mem.ReadAt(image, int64(low)); err != nil {
		return forbidden(err)
	}
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return fmt.Errorf("reading the vDSO: %w", err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return fmt.Errorf("reading the vDSO: %w", err)
	}
	written := 0
	for _, s := range symbols {
		code, ok := clockFunctions[s.Name]
		if !ok {
			continue
		}
		code = binary.LittleEndian.AppendUint64(bytes.Clone(code), uint64(ahead/time.Second))
		if uint64(len(code)) > s.Size {
			return fmt.Errorf("the vDSO's %s has %d bytes, want %d: %w", s.Name, s.Size, len(code), errors.ErrUnsupported)
		}
		if _, err := mem.WriteAt(code, int64(low+s.Value)); err != nil {
			return forbidden(err)
		}
		written++
	}
	if written != len(clockFunctions) {
		return fmt.Errorf("the vDSO has %d of %d functions: %w", written, len(clockFunctions), errors.ErrUnsupported)
	}
	return nil
}

// forbidden is the error of a kernel that lets nobody into the memory of a process.
func forbidden(err error) error { return fmt.Errorf("%w: %w", errors.ErrUnsupported, err) }

// vdso returns where a process has its vDSO.
func vdso(dir string) (low, high uint64, err error) {
	maps, err := os.ReadFile(filepath.Join(dir, "maps"))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			_, err := fmt.Sscanf(line, "%x-%x", &low, &high)
			return low, high, err
		}
	}
	return 0, 0, fmt.Errorf("the process has no vDSO: %w", errors.ErrUnsupported)
}

// inside is [errBusy] if a thread of a stopped process is at an address from low to high: see proc_pid_syscall(5).
func inside(dir string, low, high uint64) error {
	threads, err := filepath.Glob(filepath.Join(dir, "task", "*", "syscall"))
	if err != nil {
		return err
	}
	for _, name := range threads {
		b, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // the thread is gone
		}
		if err != nil {
			return forbidden(err)
		}
		// The last field is the program counter.
		fields := strings.Fields(string(b))
		at, err := strconv.ParseUint(fields[len(fields)-1], 0, 64)
		if err != nil || low <= at && at < high {
			return errBusy // "running" has no program counter
		}
	}
	return nil
}
