import { HostError } from '@vmplanes/engine';
import { readFileSync } from 'node:fs';
import { checkConfig } from './check-config.ts';
import type { CheckedConfig } from './guest-config.ts';

/** Line and column of a character, both from 1. */
const placeOf = (text: string, at: number): string => {
  const before = text.slice(0, at).split('\n');
  return `line ${before.length}, column ${before.at(-1)!.length + 1}`;
};

/** Where JSON parsing failed, if the message tells. */
const whereOf = (message: string, text: string): string => {
  const found = /at position (\d+)/.exec(message);
  if (found) return placeOf(text, Number(found[1]));
  return /end of JSON input/.test(message) ? placeOf(text, text.length) : 'somewhere';
};

/**
 * Parses a guest configuration.
 * @param source - file name for messages.
 * @throws {HostError} BadConfig with line and column where it is no JSON, with path and did-you-mean where it does not fit.
 */
export function parseConfig(text: string, source: string): CheckedConfig {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new HostError('BadConfig', `${source}: is not JSON: ${whereOf(message, text)}: ${message}`, { source });
  }
  return checkConfig(value, source);
}

/** Reads a guest configuration file. @throws {HostError} BadFile, BadConfig. */
export function readConfig(path: string): CheckedConfig {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new HostError('BadFile', `${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`, { path, fix: 'name a guest configuration file' });
  }
  return parseConfig(text, path);
}
