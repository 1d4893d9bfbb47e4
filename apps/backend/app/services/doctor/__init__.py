"""`tribi doctor`: the go-live checklist. Each check looks at one thing and says what it found and what to do."""
