// Package sizing measures what one machine carries and documents it. [Sweep] does
// real runs of growing size, one after another, against one installation:
// subscribers directly and through TURN, publishers, audio only, joins,
// recordings. Its result is [Data]: every run's figures, what one core of each
// process carries, and the plans that package plan computes from them for more
// participants than any run had. [Data] becomes a JSON file, pictures
// ([Data.Pictures]) and the tables of docs/sizing.md ([Data.Fragments],
// [Insert]), so that the document states exactly what was measured.
//
// A series ends at the first run that does not pass: that run is kept and marked.
// Larger sizes are not tried, since an overloaded machine would measure itself.
package sizing
