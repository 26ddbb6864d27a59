export { abiDiff, type AbiDifference } from './abi-diff.ts';
export { bundled } from './bundled.ts';
export { exitCodes, type ExitCode, exitOfError } from './exit-codes.ts';
export { type Page, pages } from './docs/pages.ts';
export { main, makeProgram } from './program.ts';
