package main

import (
	"context"
	"errors"
)

func runCompile(context.Context) error { return errors.New("x") }
