// What GitOps tools read from an object: kstatus by its reference implementation, and the scripts of Argo CD by the interpreter and
// with the libraries that Argo CD gives them. Objects come as lines of JSON on standard input; each gets a line of JSON.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Argo CD ends a script after this time.
const scriptTime = time.Second

type object = map[string]any

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	switch {
	case len(arguments) == 1 && arguments[0] == "--version":
		fmt.Println(version())
		return nil
	case len(arguments) == 1 && arguments[0] == "kstatus":
		return eachObject(kstatus)
	case len(arguments) == 2 && arguments[0] == "lua":
		return eachObject(func(line []byte) (any, error) { return script(arguments[1], line) })
	}
	return errors.New("usage: gitops-status --version | kstatus | lua SCRIPT")
}

func eachObject(answer func([]byte) (any, error)) error {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	encoder := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		answered, err := answer(lines.Bytes())
		if err != nil {
			return err
		}
		if err := encoder.Encode(answered); err != nil {
			return err
		}
	}
	return lines.Err()
}

// Numbers stay integers, as in what a client of the API server decodes.
func kstatus(line []byte) (any, error) {
	var decoded unstructured.Unstructured
	if err := decoded.UnmarshalJSON(line); err != nil {
		return nil, err
	}
	result, err := status.Compute(&decoded)
	if err != nil {
		return nil, err
	}
	return object{"status": result.Status, "message": result.Message}, nil
}

func script(text string, line []byte) (any, error) {
	var decoded object
	if err := json.Unmarshal(line, &decoded); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), scriptTime)
	defer cancel()
	return runScript(ctx, text, decoded)
}

// The version of the library that knows kstatus.
func version() string {
	info, _ := debug.ReadBuildInfo()
	for _, dependency := range info.Deps {
		if dependency.Path == "github.com/fluxcd/cli-utils" {
			return dependency.Version
		}
	}
	return "unknown"
}
