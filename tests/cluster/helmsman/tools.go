package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// The log: one format, on the standard output, whatever the level.
func line(level, format string, args ...any) {
	fmt.Printf("%s %s: %s\n", time.Now().Format("2006-01-02 15:04:05"), level, fmt.Sprintf(format, args...))
}

func info(format string, args ...any)    { line("INFO", format, args...) }
func notice(format string, args ...any)  { line("NOTICE", format, args...) }
func warning(format string, args ...any) { line("WARNING", format, args...) }
func problem(format string, args ...any) { line("ERROR", format, args...) }

func fatal(format string, args ...any) {
	line("CRITICAL", format, args...)
	os.Exit(1)
}

func verbose(format string, args ...any) {
	if option.verbose || option.debug {
		line("INFO", format, args...)
	}
}

type output struct {
	code           int
	stdout, stderr string
	failed         error
}

func start(stdin string, program string, args ...string) output {
	if option.debug {
		line("DEBUG", "%s %s", program, strings.Join(args, " "))
	}
	command := exec.Command(program, args...)
	var out, err bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(stdin), &out, &err
	failed := command.Run()
	result := output{stdout: out.String(), stderr: err.String(), failed: failed}
	var exit *exec.ExitError
	if errors.As(failed, &exit) {
		result.code = exit.ExitCode()
	} else if failed != nil {
		result.code, result.stderr = 1, failed.Error()
	}
	return result
}

func run(program string, args ...string) output { return start("", program, args...) }

// Tries a command up to three times; pauses grow from four seconds.
func retry(what, program string, args ...string) (output, error) {
	var out output
	for attempt := 0; attempt < 3; attempt++ {
		if out = run(program, args...); out.failed == nil {
			return out, nil
		}
		if attempt < 2 {
			time.Sleep(time.Duration(4<<attempt) * time.Second)
			info("Retrying %s due to error: %s", what, strings.TrimSpace(out.stderr))
		}
	}
	return out, fmt.Errorf("after %d attempts of %s, it failed with: %s", 3, what, strings.TrimSpace(out.stderr))
}

func exists(tool string) bool {
	_, err := exec.LookPath(tool)
	return err == nil
}

func contains(words []string, word string) bool {
	for _, each := range words {
		if each == word {
			return true
		}
	}
	return false
}
