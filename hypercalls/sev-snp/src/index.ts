export { SnpLevel } from './levels.ts';
