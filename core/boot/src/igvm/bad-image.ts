import { hex } from '@vmplanes/binary';
import { HostError } from '@vmplanes/engine';

/** The error of a file that is not as its format says. @param at - byte in the file. */
export const badImage = (problem: string, at?: number): HostError => new HostError('BadImage', `IGVM file${at === undefined ? '' : `, byte ${hex(at)}`}: ${problem}`, at === undefined ? {} : { at });
