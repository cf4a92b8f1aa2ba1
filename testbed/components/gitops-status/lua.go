package main

import (
	"context"
	"fmt"
	"time"

	"github.com/yuin/gopher-lua"
)

// The libraries that a script of argocd-cm has: neither strings nor files.
var libraries = []struct {
	name string
	open lua.LGFunction
}{
	{lua.LoadLibName, lua.OpenPackage},
	{lua.BaseLibName, lua.OpenBase},
	{lua.TabLibName, lua.OpenTable},
	{lua.OsLibName, openClock},
}

// Runs a script with the object as its global `obj`, and gives back what it returns.
func runScript(ctx context.Context, script string, obj object) (any, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range libraries {
		state.Push(state.NewFunction(library.open))
		state.Push(lua.LString(library.name))
		state.Call(1, 0)
	}
	state.SetContext(ctx)
	state.SetGlobal("obj", toLua(state, obj))
	if err := state.DoString(script); err != nil {
		return nil, err
	}
	if state.GetTop() == 0 {
		return nil, fmt.Errorf("the script returns nothing")
	}
	return fromLua(state.Get(-1))
}

// Of the library `os` a script gets the time alone.
func openClock(state *lua.LState) int {
	clock := state.RegisterModule(lua.OsLibName, map[string]lua.LGFunction{
		"time": func(state *lua.LState) int {
			state.Push(lua.LNumber(time.Now().Unix()))
			return 1
		},
	})
	state.Push(clock)
	return 1
}

func toLua(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case float64:
		return lua.LNumber(value)
	case string:
		return lua.LString(value)
	case []any:
		table := state.NewTable()
		for _, item := range value {
			table.Append(toLua(state, item))
		}
		return table
	case object:
		table := state.NewTable()
		for key, item := range value {
			table.RawSetString(key, toLua(state, item))
		}
		return table
	}
	return lua.LNil
}

// An empty table is an empty list, whatever it was before.
func fromLua(value lua.LValue) (any, error) {
	switch value := value.(type) {
	case lua.LBool:
		return bool(value), nil
	case lua.LNumber:
		return float64(value), nil
	case lua.LString:
		return string(value), nil
	case *lua.LTable:
		if value.Len() > 0 {
			return list(value)
		}
		return fields(value)
	}
	return nil, fmt.Errorf("the script returns a %s", value.Type())
}

func list(table *lua.LTable) (any, error) {
	items := []any{}
	for i := 1; i <= table.Len(); i++ {
		item, err := fromLua(table.RawGetInt(i))
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

func fields(table *lua.LTable) (any, error) {
	found := object{}
	var failed error
	table.ForEach(func(key, item lua.LValue) {
		converted, err := fromLua(item)
		if err != nil {
			failed = err
		}
		found[key.String()] = converted
	})
	if len(found) == 0 {
		return []any{}, nil
	}
	return found, failed
}
