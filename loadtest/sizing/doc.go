// Package sizing measures what one machine carries, and writes it down.
// [Sweep] does real runs of growing size, one after another, against one
// installation: subscribers directly and through TURN, publishers, audio alone,
// joins, recordings. What it gives is [Data]: every run's figures, what one core
// of each process carries, and what package plan makes of it for more
// participants than any run had. [Data] becomes a JSON file, pictures
// ([Data.Pictures]) and the tables of docs/sizing.md ([Data.Fragments],
// [Insert]), so that the document says what was measured and nothing else.
//
// Growing stops at the first run that does not pass: it is kept and marked, and
// what lies beyond is not looked for, since the machine would be measuring its
// own shortness of breath.
package sizing
